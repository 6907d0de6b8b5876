import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { schemaText } from '../../src/cli/commands/schema.js';
import { toJsonSchema } from '../../src/cli/json-schema.js';
import { type ConfigRole, ROLE_CONFIGS } from '../../src/cli/role-configs.js';
import { REPOSITORY } from '../lab/services.js';

const ROLES = Object.keys(ROLE_CONFIGS) as ConfigRole[];

describe('the JSON Schema', () => {
  it.each(ROLES)('in the package is that of the %s’s configuration', (role) => {
    // When this fails: node program/cli/main.js schema ROLE > schema/ROLE.json
    expect(readFileSync(join(REPOSITORY, 'schema', `${role}.json`), 'utf8')).toBe(`${schemaText(role)}\n`);
  });

  it.each(ROLES)('of a %s says of every key what it is for, and knows no others', (role) => {
    const schema = JSON.parse(schemaText(role)) as {
      readonly additionalProperties: boolean;
      readonly properties: Record<string, { readonly description?: string }>;
    };
    expect(schema.additionalProperties).toBe(false);
    for (const { description } of Object.values(schema.properties)) expect(description).toMatch(/\.$/);
  });

  it('says defaults, choices, ranges and patterns', () => {
    const { properties } = JSON.parse(schemaText('agent')) as { properties: Record<string, object> };
    expect(properties['port']).toMatchObject({ type: 'integer', minimum: 0, maximum: 65535, default: 0 });
    expect(properties['mode']).toMatchObject({ enum: ['auto', 'tun', 'proxy'], default: 'auto' });
    expect(properties['tun']).toMatchObject({ type: 'string', pattern: '^[A-Za-z0-9_.-]{1,15}$' });
    expect(properties['forwards']).toMatchObject({ type: 'array', items: { type: 'string' }, default: [] });
  });

  it('is not made of what it cannot say', () => {
    expect(() => toJsonSchema(v.date(), 'x')).toThrow(expect.objectContaining({ code: 'SCHEMA_UNKNOWN' }));
    expect(() => toJsonSchema(v.pipe(v.string(), v.email()), 'x')).toThrow(
      expect.objectContaining({ code: 'SCHEMA_UNKNOWN' }),
    );
  });
});
