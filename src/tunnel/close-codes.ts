/**
 * Application error codes (RFC 9000 §20.2) with which relay connections and links are closed. The reason text says more, for
 * people.
 */
export const CloseCode = {
  done: 0,
  /** The peer broke the protocol. */
  protocol: 1,
  /** The hello was judged and refused; the text begins with the error's code. */
  refused: 2,
  /** A newer connection of the same node has taken its place. */
  replaced: 3,
  /** The policy no longer allows it. */
  policy: 4,
  timeout: 5,
  /** The process ends. */
  shutdown: 6,
  /** Not only this link: the session is over, its flows are to end. */
  sessionOver: 7,
} as const;
