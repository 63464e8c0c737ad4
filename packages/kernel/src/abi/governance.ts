// Governance: a policy beside the rights of processes, about who may do what. It can only refuse or ask.

export interface GovernanceRequest {
  readonly user: string;
  readonly pid: number;
  readonly group?: string;
  /** Name of the process. */
  readonly process: string;
  readonly call: string;
  readonly right: string;
  readonly resource: string;
  /** Arguments of the call. */
  readonly args: unknown;
  /** Wall-clock milliseconds. */
  readonly at: number;
}

export interface GovernanceVerdict {
  readonly effect: "allow" | "ask" | "deny";
  /** One sentence for whoever was refused. */
  readonly reason: string;
}

export interface Governance {
  readonly name: string;
  /** Asked for each call of any process but the owner's that reaches beyond the process itself. */
  authorize(request: GovernanceRequest): GovernanceVerdict | Promise<GovernanceVerdict>;
  /** What a user may do, as texts for people. */
  permissions(user: string): readonly string[];
}
