/** Which links may carry a session's packets, as a configuration or a policy says it. */

/** Which links may carry packets: all, only those through the relay, only direct ones. */
export const PATH_CHOICES = ['auto', 'relay', 'direct'] as const;
export type PathChoice = (typeof PATH_CHOICES)[number];
/** Links of one kind. */
export type HeldPath = Exclude<PathChoice, 'auto'>;
