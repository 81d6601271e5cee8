import { Module, type DynamicModule } from '@nestjs/common';
import type { ModelSettings } from '../settings.js';
import { BillService } from '../usage/bill.service.js';
import { UsageModule } from '../usage/usage.module.js';
import { MeteredModel } from './metered-model.js';
import type { Model } from './model.js';
import { OfflineModel } from './offline-model.js';
import { RemoteModel } from './remote-model.js';

@Module({})
export class ModelModule {
  static with(settings: ModelSettings): DynamicModule {
    return {
      module: ModelModule,
      // Global, because which model there is was decided here and is nobody else's business.
      global: true,
      imports: [UsageModule],
      providers: [
        {
          provide: MeteredModel,
          inject: [BillService],
          useFactory: (bill: BillService) => new MeteredModel(createModel(settings), bill, settings.pauseMs),
        },
      ],
      exports: [MeteredModel],
    };
  }
}

function createModel(settings: ModelSettings): Model {
  const { baseUrl } = settings;
  return baseUrl === undefined ? new OfflineModel(settings) : new RemoteModel({ ...settings, baseUrl });
}
