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

/** A pipe begins with its schema, which may be a pipe itself. What only a program can check is told in words. */
function convert(shape: Shape): Json {
  if (shape.pipe === undefined) return bare(shape);
  const [first, ...steps] = shape.pipe;
  const said: Record<string, unknown> = { ...convert(first!) };
  for (const step of steps) Object.assign(said, refinement(step, said));
  return said;
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

/** What one step of a pipe adds to what there is. */
function refinement(item: Shape, sofar: Json): Json {
  switch (item.type) {
    case 'description': {
      const { description: words } = sofar;
      return { description: words === undefined ? item.description : `${item.description} It ${String(words)}.` };
    }
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
      return { description: item.message };
    default:
      throw unknown(item);
  }
}

function unknown(shape: Shape): SallyportError {
  return new SallyportError('bug', 'SCHEMA_UNKNOWN', `JSON Schema of "${shape.type}" is not known`);
}
