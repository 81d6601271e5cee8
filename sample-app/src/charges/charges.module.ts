import { Module } from '@nestjs/common';
import { UsageModule } from '../usage/usage.module.js';
import { ChargesController } from './charges.controller.js';

@Module({ imports: [UsageModule], controllers: [ChargesController] })
export class ChargesModule {}
