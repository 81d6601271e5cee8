import { Inject, Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { HttpTransport } from '../http/http-transport.js';
import { EngineHost } from './engine-host.js';
import { RouteTable } from './route-table.js';

/** Registered globally by the module. Handlers without `@Idempotent()` pass as if it were not there. */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  private readonly http: HttpTransport;

  constructor(
    @Inject(RouteTable) private readonly routes: RouteTable,
    @Inject(EngineHost) host: EngineHost,
  ) {
    this.http = new HttpTransport(() => host.engine());
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const route = this.routes.of(context);
    if (route === null || context.getType() !== 'http') return next.handle();
    return this.http.handle(route, context, next);
  }
}
