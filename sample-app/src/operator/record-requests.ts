import { IsIn, IsInt, IsOptional, IsString, Max, Min, ValidateIf } from 'class-validator';

/** Names one record: whose, of what, under which key. */
export class RecordRequest {
  @IsString()
  tenant: string;

  /** Method and route pattern: `POST /v1/chat/completions`. */
  @IsString()
  operation: string;

  @IsString()
  key: string;
}

export class ResolveRequest extends RecordRequest {
  @IsIn(['rerun', 'completed'])
  outcome: 'rerun' | 'completed';

  @ValidateIf(({ outcome }: ResolveRequest) => outcome === 'completed')
  @IsInt()
  @Min(200)
  @Max(499)
  status?: number;

  /** What the client is answered from now on. */
  @IsOptional()
  body?: unknown;
}
