/**
 * The import floors of ARCHITECTURE.md: a folder imports only from folders on lower floors, and only the outside modules
 * its floor may touch. Roles never import each other; there are no cycles.
 */
const below = ['base', 'wire', 'netstack', 'tunnel', 'policy', 'os', 'quic', 'identity'];
const allowed = {
  base: [],
  wire: ['base'],
  netstack: ['base', 'wire'],
  tunnel: ['base', 'wire'],
  policy: ['base'],
  os: ['base', 'wire'],
  quic: ['base', 'wire'],
  engine: ['base', 'wire', 'netstack', 'os'],
  trace: ['base', 'wire', 'os'],
  identity: ['base', 'policy'],
  node: ['base', 'wire', 'netstack', 'tunnel', 'policy', 'os', 'quic', 'identity'],
  relay: below,
  connector: [...below, 'engine', 'node'],
  agent: [...below, 'engine', 'node'],
  tun2socks: ['base', 'wire', 'netstack', 'os', 'engine'],
  control: [...below, 'engine', 'node', 'relay', 'connector', 'agent'],
};

const pure = ['base', 'wire', 'netstack', 'tunnel', 'policy'];

const floors = Object.entries(allowed).map(([folder, lower]) => ({
  name: `floor-${folder}`,
  comment: `src/${folder} may import only from: ${lower.join(', ') || 'nothing'}`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: '^src/', pathNot: `^src/(${[folder, ...lower].join('|')})/` },
}));

module.exports = {
  forbidden: [
    ...floors,
    {
      name: 'no-cycles',
      comment: 'No cycles at run time; types may name each other.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'pure-floors-touch-nothing',
      comment:
        'Pure floors import no Node module and no package (valibot, a pure schema library, is allowed in tunnel and policy).',
      severity: 'error',
      from: { path: `^src/(${pure.join('|')})/` },
      to: { dependencyTypes: ['core', 'npm', 'npm-dev'], pathNot: 'node_modules/valibot/' },
    },
    {
      name: 'koffi-only-in-os',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/os/' },
      to: { path: 'node_modules/koffi/' },
    },
    {
      name: 'x509-only-on-demand',
      comment: '@peculiar/x509 takes 150 ms to load: only identity/x509.ts imports it, and that only by import().',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/identity/x509\\.ts$' },
      to: { path: '^src/identity/x509\\.ts$|node_modules/@peculiar/', dynamic: false },
    },
    { name: 'nothing-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
