import { Inject, Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { HttpTransport } from '../http/http-transport.js';
import { MessageTransport } from '../messages/message-transport.js';
import { EngineHost } from './engine-host.js';
import { markTaken } from './hybrid.js';
import { RouteTable } from './route-table.js';

/** Registered globally by the module. Handlers without `@Idempotent()` pass as if it were not there. */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  private readonly http: HttpTransport;
  private readonly messages: MessageTransport;

  constructor(
    @Inject(RouteTable) private readonly routes: RouteTable,
    @Inject(EngineHost) host: EngineHost,
  ) {
    this.http = new HttpTransport(() => host.engine());
    this.messages = new MessageTransport(() => host.engine());
    routes.guardMessages((context, next) => this.interceptMessage(context, next));
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    switch (context.getType()) {
      case 'http': {
        const route = this.routes.of(context);
        return route === null ? next.handle() : this.http.handle(route, context, next);
      }
      case 'rpc':
        return this.interceptMessage(context, next);
      default:
        // Handlers of other transports are refused at boot where they are decorated.
        return next.handle();
    }
  }

  private interceptMessage(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    markTaken(context);
    const route = this.routes.ofMessage(context);
    return route === null ? next.handle() : this.messages.handle(route, context, next);
  }
}
