// As in load/undici.d.ts: what the checks of the project need to know where the peer is not installed.
declare module '@node-idempotency/nestjs' {
  import type { DynamicModule } from '@nestjs/common';

  export function Idempotent(options?: object): MethodDecorator;
  export const NodeIdempotencyModule: { forRootAsync(options: object): DynamicModule };
}
