import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../', import.meta.url));

interface SourceFile {
  /** From `lib`, with slashes: `core/engine.ts`. */
  readonly path: string;
  readonly text: string;
  /** Specifiers as written, types included. */
  readonly imports: string[];
  /** Those among them that are loaded only when the code comes by. */
  readonly lazyImports: string[];
  readonly usesAny: boolean;
}

const files = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readSource(name));
const byPath = new Map(files.map((file) => [file.path, file]));

function readSource(name: string): SourceFile {
  const text = readFileSync(join(root, 'lib', name), 'utf8');
  const imports: string[] = [];
  const lazyImports: string[] = [];
  let usesAny = false;
  const visit = (node: ts.Node): void => {
    usesAny ||= node.kind === ts.SyntaxKind.AnyKeyword;
    const from = importedBy(node);
    if (from && ts.isStringLiteralLike(from)) {
      imports.push(from.text);
      if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
        lazyImports.push(from.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.Latest));
  return { path: name.split(sep).join('/'), text, imports, lazyImports, usesAny };
}

function importedBy(node: ts.Node): ts.Node | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return node.argument.literal;
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) return node.arguments[0];
  if (ts.isCallExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === 'require') {
    return node.arguments[0];
  }
  return undefined;
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith('.');
}

/** Where a relative import leads, as a path like those of the files. */
function target(file: SourceFile, specifier: string): string {
  return posix.join(posix.dirname(file.path), specifier).replace(/\.js$/, '.ts');
}

/** `core`, `http`, `nest`, `testing`, `stores/memory` …; the entry file is above them all. */
function partOf(path: string): string {
  const [first = '', second = ''] = path.split('/');
  return first === 'stores' ? `stores/${second}` : first;
}

function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Whom a part may import besides itself, and which packages it may use. */
const rules: Record<string, { parts: string[]; packages: string[] }> = {
  core: { parts: [], packages: [] },
  http: { parts: ['core'], packages: ['@nestjs/common', '@nestjs/core', 'rxjs'] },
  messages: { parts: ['core'], packages: ['@nestjs/common', '@nestjs/microservices', 'rxjs'] },
  keys: { parts: ['core'], packages: ['@nestjs/common'] },
  nest: {
    parts: ['core', 'http', 'messages'],
    packages: ['@nestjs/common', '@nestjs/core', 'rxjs', 'reflect-metadata'],
  },
  testing: { parts: ['core'], packages: [] },
  'stores/memory': { parts: ['core'], packages: [] },
  'stores/typeorm': { parts: ['core'], packages: ['typeorm', '@nestjs/typeorm', '@nestjs/common', 'pg'] },
  'stores/redis': { parts: ['core'], packages: ['ioredis', 'redis'] },
};

describe('the parts of the library', () => {
  const inParts = files.filter((file) => file.path.includes('/'));

  it('are the ones that the rules are about', () => {
    const unknown = inParts.filter((file) => !(partOf(file.path) in rules)).map((file) => file.path);
    expect(unknown).toEqual([]);
  });

  it.each(Object.keys(rules))('%s imports only what it may', (part) => {
    const { parts, packages } = rules[part]!;
    const wrong: string[] = [];
    for (const file of inParts.filter(({ path }) => partOf(path) === part)) {
      for (const specifier of file.imports) {
        const allowed = isRelative(specifier)
          ? [part, ...parts].includes(partOf(target(file, specifier)))
          : specifier.startsWith('node:') || packages.includes(packageOf(specifier));
        if (!allowed) wrong.push(`${file.path} imports ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('import files that exist, by their full names', () => {
    const wrong = files.flatMap((file) =>
      file.imports
        .filter((specifier) => isRelative(specifier) && !byPath.has(target(file, specifier)))
        .map((specifier) => `${file.path} imports ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });
});

describe('the main entry', () => {
  it('needs no optional peer, not even for its types', () => {
    const always = ['@nestjs/common', '@nestjs/core', 'rxjs', 'reflect-metadata'];
    const lazily = ['messages/microservices.ts imports @nestjs/microservices'];
    const seen = new Set<string>();
    const wrong: string[] = [];
    const lazy: string[] = [];
    const follow = (path: string): void => {
      const file = byPath.get(path);
      if (!file || seen.has(path)) return;
      seen.add(path);
      for (const specifier of file.imports) {
        if (isRelative(specifier)) follow(target(file, specifier));
        else if (file.lazyImports.includes(specifier)) lazy.push(`${path} imports ${specifier}`);
        else if (!specifier.startsWith('node:') && !always.includes(packageOf(specifier))) {
          wrong.push(`${path} imports ${specifier}`);
        }
      }
    };
    follow('index.ts');
    expect(seen.size).toBeGreaterThan(10);
    expect(wrong).toEqual([]);
    expect(lazy).toEqual(lazily);
  });
});

describe('every file of the library', () => {
  it('can be read in one sitting: at most 300 lines', () => {
    expect(files.filter(({ text }) => text.trimEnd().split('\n').length > 300).map(({ path }) => path)).toEqual([]);
  });

  it('is typed without any', () => {
    expect(files.filter(({ usesAny }) => usesAny).map(({ path }) => path)).toEqual([]);
  });
});

describe('the README', () => {
  const codes = [
    'idempotency_key_missing',
    'idempotency_key_invalid',
    'idempotency_key_reused',
    'idempotency_in_progress',
    'idempotency_outcome_unknown',
    'idempotency_response_not_kept',
    'idempotency_store_unavailable',
  ];

  it.each(codes)('has %s in its table of answers', (code) => {
    const readme = existsSync(join(root, 'README.md')) ? readFileSync(join(root, 'README.md'), 'utf8') : '';
    const rows = readme.split('\n').filter((line) => line.startsWith('|'));
    expect(rows.some((row) => row.includes(`\`${code}\``))).toBe(true);
  });

  it('links to files that exist', () => {
    const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'docs/design.md', 'docs/messages.md'].filter((page) =>
      existsSync(join(root, page)),
    );
    const broken = pages.flatMap((page) =>
      [...readFileSync(join(root, page), 'utf8').matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)]
        .map(([, link]) => join(root, dirname(page), link!))
        .filter((path) => !existsSync(path))
        .map((path) => `${page}: ${relative(root, path)}`),
    );
    expect(broken).toEqual([]);
  });
});
