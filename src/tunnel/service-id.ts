/** What a service is called, in messages, policies and configurations. */

/** One lower-case DNS label of 1 – 63 characters (RFC 1035 §2.3.1, digits allowed first by RFC 1123 §2.1). */
export const SERVICE_ID = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
