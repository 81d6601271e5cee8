import { Type } from 'class-transformer';
import { ArrayMaxSize, ArrayMinSize, IsArray, IsIn, IsOptional, IsString, ValidateNested } from 'class-validator';
import type { ChatMessage } from '../model/model.js';

export class ChatRequestMessage implements ChatMessage {
  @IsIn(['system', 'developer', 'user', 'assistant'])
  role: string;

  @IsString()
  content: string;
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

  /** Refused, not ignored: a client that asked for a stream would take a plain answer for an empty one. */
  @IsOptional()
  @IsIn([false], { message: 'This service does not stream. Leave `stream` out, or send false.' })
  stream?: boolean;
}
