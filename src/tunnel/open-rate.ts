/** How fast an agent may ask a relay for channels: the relay answers BUSY beyond it, and an agent asks a little more slowly. */

/** Channels asked for a second: each costs a connector an answer. */
export const OPENS_PER_SECOND = 10;
/** Channels asked for at once: a program that looks at everything there is, or a relay that has come back. */
export const OPENS_AT_ONCE = 40;
