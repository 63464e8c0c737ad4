// Where secrets are kept. Their values reach whoever has the right to read them, and nothing that is stored or shown.

export interface SecretStore {
  readonly name: string;
  /** The value, or nothing when the store does not have it. */
  get(name: string): string | undefined | Promise<string | undefined>;
  /** Names that it has. */
  names(): readonly string[] | Promise<readonly string[]>;
}
