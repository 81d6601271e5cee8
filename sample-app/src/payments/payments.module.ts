import { Module, type DynamicModule } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { Settings } from '../settings.js';
import { OfflinePaymentProvider } from './offline-payment-provider.js';
import { PaymentProvider } from './payment-provider.js';

@Module({})
export class PaymentsModule {
  static with({ delayMs }: Settings['payments']): DynamicModule {
    return {
      module: PaymentsModule,
      global: true,
      providers: [
        {
          provide: PaymentProvider,
          inject: [DataSource],
          useFactory: (dataSource: DataSource) => new OfflinePaymentProvider(dataSource, delayMs),
        },
      ],
      exports: [PaymentProvider],
    };
  }
}
