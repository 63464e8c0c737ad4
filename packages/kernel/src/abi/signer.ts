// Signatures of a host: heads of the audit chain, and passes.

/** Keeps the newest head of the audit chain outside of the store, where a store that was set back does not reach. */
export interface AuditAnchor {
  read(): string | undefined;
  write(head: string): void;
}

export interface Signer {
  /** Names the key that signs now: its public part can be found by it. */
  readonly keyId: string;
  /** Signs a text with the newest key; base64url. */
  sign(text: string): string;
  /** Whether a key of this host, old ones included, has signed a text. */
  verify(text: string, signature: string, keyId: string): boolean;
}
