// Rows about services.

import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { ProgramSource } from "../proc/program.ts";
import { ATTESTATIONS, type Attestation, type ServiceModule } from "../service/service.ts";
import type { Check, EnlistOptions, ServiceStatus } from "../service/unit.ts";
import type { Host } from "./host.ts";
import { type Target, anything, args, flag, row } from "./row.ts";

type Named = { readonly name: string };
/** A service of code in this host, or the module that it is in, which needs the right `kernel.module`. */
export interface Enlisting extends EnlistOptions {
  readonly service?: ServiceModule;
  readonly source?: ProgramSource;
}

const name = { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax } as const;
const short = { type: "string", maxLength: 512 } as const;
const service = { type: "object", additionalProperties: true, description: "a service of code in this host" } as const;
const source = {
  type: "object",
  properties: { module: { type: "string", minLength: 1, maxLength: 4096 }, export: name, cwd: { type: "string" } },
  required: ["module"],
  additionalProperties: false,
} as const;
const attest = {
  type: "object",
  properties: { level: { type: "string", enum: ATTESTATIONS }, hash: short, signature: short, keyId: short },
  required: ["level"],
  additionalProperties: false,
} as const;

const onService = (_host: Host, _caller: unknown, a: Named): Target => ({ resource: `/sys/services/${a.name}` });
const onServices = (): Target => ({ resource: "/sys/services" });
const ofModule = ({ source: at }: { readonly source?: ProgramSource }) =>
  at?.module === undefined ? [] : [{ right: "kernel.module", resource: at.module }];

/** @throws {EINVAL} both are given, or none */
function oneOf(a: {
  readonly service?: ServiceModule;
  readonly source?: ProgramSource;
}): ServiceModule | ProgramSource {
  if (a.service !== undefined && a.source === undefined) return a.service;
  if (a.source !== undefined && a.service === undefined) return a.source;
  throw new KernelError("EINVAL", "name either the service itself, or the source of its module", { syscall: "enlist" });
}

export const SERVICE_ROWS = {
  enlist: row<Enlisting, Promise<ServiceStatus>>({
    right: "service.manage",
    kind: "mutation",
    summary: "makes a service known and starts it, as a child of the caller; it waits for what it needs",
    schema: args({ service, source, config: anything, attest, lazy: flag }),
    target: onServices,
    alsoNeeds: ofModule,
    audited: ({ service: module, source: at, attest: level, lazy }) => ({
      name: module?.name,
      source: at,
      attest: level,
      lazy,
    }),
    handle: async (host, caller, a, _target, draft) => {
      const { service: _service, source: _source, ...options } = a;
      return host.services.enlist(caller, oneOf(a), options, draft);
    },
  }),
  delist: row<Named, Promise<void>>({
    right: "service.manage",
    kind: "mutation",
    summary: "stops a service and forgets it",
    schema: args({ name }, ["name"]),
    target: onService,
    handle: (host, _caller, a, _target, draft) => host.services.delist(a.name, draft),
  }),
  startService: row<Named, Promise<ServiceStatus>>({
    right: "service.manage",
    kind: "mutation",
    summary: "starts a service, and before it what it needs; answers when it is ready",
    schema: args({ name }, ["name"]),
    target: onService,
    handle: (host, _caller, a, _target, draft) => host.services.start(a.name, draft),
  }),
  stopService: row<Named, Promise<ServiceStatus>>({
    right: "service.manage",
    kind: "mutation",
    summary: "stops a service, and before it what needs it",
    schema: args({ name }, ["name"]),
    target: onService,
    handle: (host, _caller, a, _target, draft) => host.services.stop(a.name, draft),
  }),
  restartService: row<Named, Promise<ServiceStatus>>({
    right: "service.manage",
    kind: "mutation",
    summary: "stops a service and what needs it, and starts them again",
    schema: args({ name }, ["name"]),
    target: onService,
    handle: (host, _caller, a) => host.services.restart(a.name),
  }),
  swapService: row<
    Named & { readonly service?: ServiceModule; readonly source?: ProgramSource; readonly attest?: Attestation },
    Promise<ServiceStatus>
  >({
    right: "service.manage",
    kind: "mutation",
    summary: "puts another implementation in the place of a running service; no call fails for it",
    schema: args({ name, service, source, attest }, ["name"]),
    target: onService,
    alsoNeeds: ofModule,
    audited: ({ source: at, attest: level }) => ({ source: at, attest: level }),
    handle: async (host, _caller, a, _target, draft) => host.services.swap(a.name, oneOf(a), a.attest, draft),
  }),
  checkService: row<Named, Promise<Check>>({
    right: "service.read",
    kind: "query",
    summary: "looks now how a service is",
    schema: args({ name }, ["name"]),
    target: onService,
    handle: async (host, _caller, a) => host.vault.maskData(await host.services.check(a.name)),
  }),
  services: row<Record<string, never>, readonly ServiceStatus[]>({
    right: "service.read",
    kind: "query",
    summary: "services and their states, in the order in which they were enlisted",
    schema: args({}),
    target: onServices,
    handle: (host) => host.vault.maskData(host.services.all),
  }),
  callService: row<
    { readonly service: string; readonly method: string; readonly args?: unknown; readonly signal?: AbortSignal },
    Promise<unknown>
  >({
    right: "service.call",
    kind: "mutation",
    isLong: true,
    waits: true,
    summary: "calls a method of a service; one that is on its way is waited for",
    schema: args({ service: name, method: name, args: anything }, ["service", "method"]),
    target: (_host, _caller, a) => ({ resource: `/sys/services/${a.service}` }),
    conditions: ({ method, args: given }) => ({ method, args: given }),
    audited: ({ method }) => ({ method }),
    handle: (host, caller, a) => host.services.call(caller, a.service, a.method, a.args ?? {}, a.signal),
  }),
} as const;
