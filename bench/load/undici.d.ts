// The part of undici that the load generator uses. Here because the checks of the whole project run
// where the bench has not been installed.
declare module 'undici' {
  export interface DispatchHandler {
    onRequestStart(): void;
    onResponseStart(controller: unknown, status: number, headers: Record<string, string | string[] | undefined>): void;
    onResponseData(controller: unknown, chunk: Buffer): void;
    onResponseEnd(): void;
    onResponseError(controller: unknown, error: Error): void;
  }

  export class Client {
    constructor(origin: string, options?: { bodyTimeout?: number; headersTimeout?: number; pipelining?: number });
    dispatch(
      request: { path: string; method: string; headers: string[]; body: Buffer },
      handler: DispatchHandler,
    ): boolean;
    destroy(): Promise<void>;
  }
}
