/**
 * `sallyport tun2socks` beside other ways to carry a host's packets through ordinary sockets, in namespaces it makes itself (root).
 *
 *   npm run build && node bench/tun2socks.mjs [--help]
 */
await import('../test/lab/typescript.mjs');
await import('./tun2socks.ts');
