import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsOptional,
  IsString,
  ValidateNested,
} from 'class-validator';
import type { ChatMessage } from '../model/model.js';

export class ChatRequestMessage implements ChatMessage {
  @IsIn(['system', 'developer', 'user', 'assistant'])
  role: string;

  @IsString()
  content: string;
}

export class ChatStreamOptions {
  /** One more chunk at the end, with what the answer has cost. */
  @IsOptional()
  @IsBoolean()
  include_usage?: boolean;
}

/** What this service reads of the OpenAI request; other members (`temperature` …) are let through and not used. */
export class ChatRequest {
  @IsOptional()
  @IsString()
  model?: string;

  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(500)
  @ValidateNested({ each: true })
  @Type(() => ChatRequestMessage)
  messages: ChatRequestMessage[];

  @IsOptional()
  @IsBoolean()
  stream?: boolean;

  @IsOptional()
  @ValidateNested()
  @Type(() => ChatStreamOptions)
  stream_options?: ChatStreamOptions;
}
