import { Controller, Get, UseGuards } from '@nestjs/common';
import { CurrentTenant } from '../auth/tenant.js';
import type { Tenant } from '../auth/tenant.js';
import { TenantGuard } from '../auth/tenant.guard.js';
import { UsageService, type Usage } from './usage.service.js';

@Controller('v1/usage')
@UseGuards(TenantGuard)
export class UsageController {
  constructor(private readonly usage: UsageService) {}

  @Get()
  show(@CurrentTenant() tenant: Tenant): Promise<Usage> {
    return this.usage.of(tenant.id);
  }
}
