import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsString,
  MaxLength,
  MinLength,
  ValidateNested,
} from 'class-validator';

export class BatchItem {
  /** Names the item within its batch. */
  @IsString()
  @MinLength(1)
  @MaxLength(100)
  id: string;

  @IsString()
  @MinLength(1)
  @MaxLength(4000)
  text: string;
}

/** One question about many texts. */
export class BatchRequest {
  @IsString()
  @MaxLength(1000)
  instruction: string;

  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1000)
  @ArrayUnique(({ id }: BatchItem) => id)
  @ValidateNested({ each: true })
  @Type(() => BatchItem)
  items: BatchItem[];
}
