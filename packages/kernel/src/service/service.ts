// A service: something installed in a host that others call by name, with a life of its own.

import type { Hook } from "../abi/hook.ts";
import { KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { type Schema, schemaProblem, validate } from "../base/schema.ts";
import type { Grant } from "../cap/grant.ts";
import { RESTART_SCHEMA, type Restart, type RestartPolicy } from "../proc/restart.ts";
import type { ProcessContext } from "../proc/program.ts";

type Os = ProcessContext["os"];

/** What one call of a service takes and does. */
export interface ServiceMethod {
  readonly summary: string;
  /** Arguments are checked against it before the call; none unless given. */
  readonly input?: Schema;
  /** It is a tool too, `/lib/tools/<service>.<method>`: what a call does to the world. */
  readonly tool?: "pure" | "idempotent" | "once";
}

/** What a service offers, as data: whoever needs it relies on this alone. */
export interface ServiceContract {
  readonly name: string;
  readonly methods: Readonly<Record<string, ServiceMethod>>;
}

/** Who calls a method, beside its arguments. */
export interface ServiceCall {
  readonly pid: Pid;
  /** The calls of the caller: what a library does for somebody happens with that one's rights and budget. */
  readonly os: Os;
  /** Aborts when the caller is told to end, or gives the call up. */
  readonly signal: AbortSignal;
}

/** What a service makes of itself. A check that throws, or is too late, has failed. */
export interface ServiceInstance {
  /** Opens what it needs; it is ready when this is done. */
  start?(): unknown;
  /** Works until its signal aborts; one that ends before has failed. */
  run?(): unknown;
  /** Lets go of what it holds; no call is under way any more. */
  stop?(): unknown;
  check?(): Health | undefined | Promise<Health | undefined>;
  /** Looks at calls of everybody; needs the right `kernel.module:hooks`. */
  hookSpec?(): readonly Hook[];
}

export interface Health {
  /** It lives, and takes no calls now (default true). */
  readonly ready?: boolean;
  readonly note?: string;
}

export const WATCHDOGS = ["restart", "kill", "escalate"] as const;
export type Watchdog = (typeof WATCHDOGS)[number];

export interface HealthPolicy {
  /** Milliseconds between two checks (default 30 s). */
  readonly everyMs?: number;
  /** Milliseconds that a check may take (default 5 s). */
  readonly timeoutMs?: number;
  /** Checks in a row that fail before something is done (default 3). */
  readonly failures?: number;
  /** What is done then (default `restart`); `escalate` ends it, and tells the process that it belongs to. */
  readonly watchdog?: Watchdog;
}

export interface ServiceContext {
  readonly pid: Pid;
  /** Its own calls, with the rights of its process. */
  readonly os: Os;
  /** Aborts when it is told to end. */
  readonly signal: AbortSignal;
  readonly platform: ProcessContext["platform"];
  /** What it was enlisted with. */
  readonly config: unknown;
  /** Ends this life of the service as failed: its restart policy decides what follows. */
  fail(error: unknown): void;
}

export interface ServiceModule {
  readonly name: string;
  readonly description?: string;
  readonly contract: ServiceContract;
  /** Names of services that must be ready before it, and with which it is restarted. */
  readonly needs?: readonly string[];
  /** Narrows its rights; without it, it has those of whom it belongs to. */
  readonly grants?: readonly Grant[];
  /** After failures (default `on-failure`); its window and waits are those of processes. */
  readonly restart?: Restart | RestartPolicy;
  readonly health?: HealthPolicy;
  /** Milliseconds that it may take to become ready, and to stop (default 30 s and 5 s). */
  readonly startMs?: number;
  readonly stopMs?: number;
  /** Makes the instance: an object with the methods of the contract. */
  create(context: ServiceContext): object | Promise<object>;
}

export const ATTESTATIONS = ["basic", "enhanced", "strict"] as const;

/**
 * How sure one is that it is what it says: `basic`, its instance has all that its contract names; `enhanced`, the
 * content of its module has this hash too; `strict`, a key of this host has signed that hash too.
 */
export interface Attestation {
  readonly level: (typeof ATTESTATIONS)[number];
  /** SHA-256 of the module, in hex. */
  readonly hash?: string;
  readonly signature?: string;
  readonly keyId?: string;
}

/** What a key signs for a service. */
export const attestedText = (name: string, hash: string): string => `ergos-service ${name} ${hash}`;

const NAME = /^[a-z][a-z0-9_-]{0,63}$/u;
/** Members that have a meaning of their own. */
const LIFE = new Set(["start", "run", "stop", "check", "hookSpec", "then", "constructor"]);

const milliseconds: Schema = { type: "integer", minimum: 1, maximum: 366 * 86_400_000 };

/** What a module says of a service, but for its code. */
const SERVICE_SCHEMA: Schema = {
  type: "object",
  properties: {
    description: { type: "string" },
    contract: {
      type: "object",
      properties: {
        name: { type: "string", minLength: 1 },
        methods: {
          type: "object",
          additionalProperties: {
            type: "object",
            properties: {
              summary: { type: "string" },
              input: { type: "object" },
              tool: { type: "string", enum: ["pure", "idempotent", "once"] },
            },
            required: ["summary"],
          },
        },
      },
      required: ["name", "methods"],
    },
    needs: { type: "array", items: { type: "string" } },
    restart: RESTART_SCHEMA,
    health: {
      type: "object",
      properties: {
        everyMs: milliseconds,
        timeoutMs: milliseconds,
        failures: { type: "integer", minimum: 1 },
        watchdog: { type: "string", enum: WATCHDOGS },
      },
      additionalProperties: false,
    },
    startMs: milliseconds,
    stopMs: milliseconds,
  },
  required: ["contract"],
};

/** @throws {EINVAL} it is not one: all that is wrong is named */
export function assertService(module: ServiceModule): void {
  const issues = validate(SERVICE_SCHEMA, module);
  const wrong = issues.map(({ path, message }) => `${path.length === 0 ? "it" : path.join(".")} ${message}`);
  const { name, contract, needs } = module as Partial<ServiceModule>;
  if (typeof name !== "string" || !NAME.test(name))
    wrong.push(`its name ${JSON.stringify(name)} is not 1 to 64 of a-z, 0-9, _ and -, a letter first`);
  if (issues.length === 0)
    for (const [method, { input = {} }] of Object.entries(contract?.methods ?? {})) {
      if (!/^[A-Za-z]\w{0,63}$/u.test(method) || LIFE.has(method)) wrong.push(`${method} cannot be a method's name`);
      const problem = schemaProblem(input, `the input of ${method}`);
      if (problem !== undefined) wrong.push(problem);
    }
  if (typeof module.create !== "function") wrong.push("it has no create(context)");
  if (issues.length === 0 && needs?.includes(name ?? "") === true) wrong.push("it needs itself");
  if (wrong.length === 0) return;
  throw new KernelError("EINVAL", `this is no service: ${wrong.join("; ")}`, { syscall: "enlist" });
}

/** After failures, unless it says otherwise. */
export function restartPolicyOf(module: ServiceModule | undefined): Restart {
  const restart = module?.restart ?? "on-failure";
  return typeof restart === "string" ? { policy: restart } : restart;
}

/** @throws {EINVAL} members of the contract are missing: all of them are named */
export function assertConforms(
  { name, contract }: ServiceModule,
  instance: unknown,
): asserts instance is ServiceInstance {
  const members = (typeof instance === "object" && instance !== null ? instance : {}) as Record<string, unknown>;
  const missing = Object.keys(contract.methods).filter((method) => typeof members[method] !== "function");
  if (missing.length === 0 && typeof instance === "object" && instance !== null) return;
  throw new KernelError(
    "EINVAL",
    `service ${name} does not keep its contract ${contract.name}: ${missing.length === 0 ? "create() gave no object" : `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} missing`}`,
    { syscall: "enlist" },
  );
}

/**
 * The way along which a service would need itself, as names; nothing where there is none.
 * @param needsOf what the others need
 */
export function cycleOf(
  name: string,
  needs: readonly string[],
  needsOf: (name: string) => readonly string[],
): readonly string[] | undefined {
  const seen = new Set<string>();
  const walk = (way: readonly string[], next: readonly string[]): readonly string[] | undefined => {
    for (const need of next) {
      if (need === name) return [...way, need];
      if (seen.has(need)) continue;
      seen.add(need);
      const found = walk([...way, need], needsOf(need));
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return walk([name], needs);
}
