// Passes: capabilities outside of a host. `docs/spec/pass.md` is their format.

/** What a pass says, once its signatures are verified. */
export interface PassClaims {
  /** Ids of its blocks, the host's first: revoking one revokes the pass. */
  readonly ids: readonly string[];
  /** Names each block together with all before it: nobody makes another block of the same name. */
  readonly names: readonly string[];
  /** The user that it was issued for. */
  readonly subject: string;
  /** The process that issued it: what that may not do the pass does not allow. */
  readonly pid: number;
  /** Grants of each block, which narrow one another. */
  readonly layers: readonly (readonly string[])[];
  readonly audience: readonly string[];
  /** Wall-clock milliseconds at which the first of its blocks expires. */
  readonly expires: number;
  /** The same for each block and those before it, which other passes may have in common with this one. */
  readonly expiries: readonly number[];
}

export interface PassRequest {
  readonly subject: string;
  readonly pid: number;
  readonly audience: string;
  readonly grants: readonly string[];
  /** Wall-clock milliseconds. */
  readonly issued: number;
  readonly notBefore: number;
  readonly expires: number;
}

export interface PassAuthority {
  /** Makes a pass that whoever holds it may narrow further, and its id. */
  issue(request: PassRequest): { readonly pass: string; readonly id: string };
  /**
   * Holds a pass against the keys of this host, its audience and the time.
   * @throws {EACCES} it is forged, cut off, expired, not valid yet, or for somebody else
   */
  verify(pass: string, audiences: readonly string[], now: number): PassClaims;
}
