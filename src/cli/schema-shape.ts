/** What a configuration schema looks like from outside, for those who walk through it: the environment and the JSON Schema. */
import type * as v from 'valibot';

/** The parts of valibot's schemas and pipe items that configurations are made of. */
export interface Shape {
  readonly type: string;
  readonly wrapped?: Shape;
  readonly default?: unknown;
  readonly pipe?: readonly Shape[];
  readonly item?: Shape;
  readonly key?: Shape;
  readonly value?: Shape;
  readonly entries?: Readonly<Record<string, Shape>>;
  readonly options?: readonly string[];
  readonly requirement?: unknown;
  readonly description?: string;
  readonly message?: string;
}

/** valibot describes its schemas by plain objects; its own types say less than they hold. */
export function shapeOf(schema: v.GenericSchema): Shape {
  return schema as unknown as Shape;
}

/** The entry without the wrapper that makes it optional. */
export function unwrapped(entry: Shape): Shape {
  return entry.wrapped ?? entry;
}
