import { Module, type DynamicModule } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { PaymentSettings } from '../settings.js';
import { OfflinePaymentProvider } from './offline-payment-provider.js';
import { PaymentProvider } from './payment-provider.js';

@Module({})
export class PaymentsModule {
  static with(settings: PaymentSettings): DynamicModule {
    return {
      module: PaymentsModule,
      global: true,
      providers: [
        {
          provide: PaymentProvider,
          inject: [DataSource],
          useFactory: (dataSource: DataSource) => new OfflinePaymentProvider(dataSource, settings),
        },
      ],
      exports: [PaymentProvider],
    };
  }
}
