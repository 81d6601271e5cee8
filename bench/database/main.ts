import 'reflect-metadata';
import { serve } from '../server/control.js';
import { closeTables, fillTable, timeClaims, type ClaimsRound, type TableSize } from './large-table.js';
import { runPairs, statements, type PairsRound } from './pairs.js';

// A process of its own for what speaks to the database without a server in between.
serve(
  0,
  {
    pairs: (about) => runPairs(about as PairsRound),
    statements: (about) => statements(about as { url: string }),
    fill: (about) => fillTable(about as TableSize),
    claims: (about) => timeClaims(about as ClaimsRound),
  },
  closeTables,
);
