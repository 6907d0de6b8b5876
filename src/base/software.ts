/** The program's own name and version, as it tells peers and people. */
export const VERSION = '0.1.0';
export const SOFTWARE = `sallyport/${VERSION}`;
