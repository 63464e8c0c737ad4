// The network, as far as a process may use it: one request, one answer, no redirect followed.

export interface NetRequest {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

export interface NetResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface NetDriver {
  /**
   * The address in its one form and what rights are checked against: the host, with its port where that is not the
   * scheme's own.
   * @throws {EINVAL} it is no address of http or https, or holds a name and password
   */
  locate(
    url: string,
    base?: string,
  ): { readonly url: string; readonly host: string; /** Scheme, host and port. */ readonly origin: string };
  /**
   * Where a host, as `locate` gives it, leads now: all its addresses, none where it has none, and whether one of them is
   * not on the internet but of this machine or of a network that is not for everybody.
   */
  resolve(host: string): Promise<{ readonly addresses: readonly string[]; readonly isPrivate: boolean }>;
  /**
   * Looks at a request before anything is reserved for it; the message names no value of it.
   * @throws {EINVAL} a header that no request has, or that the connection sets; a body where there can be none
   */
  check(request: NetRequest): void;
  /**
   * Makes one request. A redirect is an answer like any other.
   * @param isPublicOnly it goes to the internet, wherever its host leads by then
   * @throws {EFBIG} the answer is larger than `maxBytes` · {ECONNREFUSED} {ECONNRESET} {ETIMEDOUT} · {EACCES} its host
   *   leads elsewhere than to the internet
   */
  send(
    request: NetRequest,
    options: { readonly signal: AbortSignal; readonly maxBytes: number; readonly isPublicOnly?: boolean },
  ): Promise<NetResponse>;
}
