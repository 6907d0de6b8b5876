/**
 * The JSON Schema (draft 2020-12) of a configuration, made from the schema that checks it, for editors. What only a program can
 * check (an address, a URL) is a text there; the check itself says more.
 */
import type * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { type Shape, shapeOf } from './schema-shape.js';

type Json = Readonly<Record<string, unknown>>;

/** @throws SallyportError SCHEMA_UNKNOWN (bug) when the schema holds something this cannot say. */
export function toJsonSchema(schema: v.GenericSchema, title: string): Json {
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', title, ...convert(shapeOf(schema)) };
}

function convert(shape: Shape): Json {
  const pipe = (shape.pipe ?? []).slice(1);
  const merged = Object.assign({}, bare(shape), ...pipe.map(refinement)) as Json;
  // What only a program can check is told in words.
  const words = (shape.pipe ?? []).find((item) => item.type === 'check')?.message;
  return words === undefined || 'description' in merged ? merged : { ...merged, description: words };
}

function bare(shape: Shape): Json {
  switch (shape.type) {
    case 'optional':
      return { ...convert(shape.wrapped!), ...(shape.default === undefined ? {} : { default: shape.default }) };
    case 'strict_object':
      return {
        type: 'object',
        properties: Object.fromEntries(Object.entries(shape.entries!).map(([key, entry]) => [key, convert(entry)])),
        additionalProperties: false,
      };
    case 'record':
      return { type: 'object', propertyNames: convert(shape.key!), additionalProperties: convert(shape.value!) };
    case 'array':
      return { type: 'array', items: convert(shape.item!) };
    case 'picklist':
      return { enum: shape.options };
    case 'string':
    case 'number':
    case 'boolean':
      return { type: shape.type };
    default:
      throw unknown(shape);
  }
}

/** What one step of a pipe adds. */
function refinement(item: Shape): Json {
  switch (item.type) {
    case 'description':
      return { description: item.description };
    case 'non_empty':
      return { minLength: 1 };
    case 'regex':
      return { pattern: (item.requirement as RegExp).source };
    case 'integer':
      return { type: 'integer' };
    case 'min_value':
      return { minimum: item.requirement };
    case 'max_value':
      return { maximum: item.requirement };
    case 'check':
      return {};
    default:
      throw unknown(item);
  }
}

function unknown(shape: Shape): SallyportError {
  return new SallyportError('bug', 'SCHEMA_UNKNOWN', `JSON Schema of "${shape.type}" is not known`);
}
