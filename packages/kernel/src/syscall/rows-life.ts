// Rows of what becomes of a process beside its start and its end: twins, other programs, narrower rights, parts, mergers.

import { LIMITS } from "../base/limits.ts";
import type { Pid } from "../base/id.ts";
import type { Amounts } from "../budget/resource.ts";
import { parseGrants } from "../cap/rights.ts";
import { MESSAGE_KINDS, type MessageKind } from "../ipc/mailbox.ts";
import type { Redoing } from "../proc/redo.ts";
import { TIERS, type Tier } from "../proc/role.ts";
import { placed } from "./placed.ts";
import { assertMay } from "./policy.ts";
import { amounts } from "./rows-budget.ts";
import type { Program } from "../proc/program.ts";
import {
  type NamedProgram,
  PROGRAM_SOURCE,
  isProgram,
  loadProgram,
  programAgain,
  programOf,
  sourceFor,
  sourceOf,
} from "./program-source.ts";
import {
  type AtPlace,
  anything,
  args,
  assertMaySay,
  atPlace,
  integer,
  isBelow,
  label,
  managedBy,
  namedProgram,
  onProcess,
  pid,
  place,
  redoing,
  row,
  text,
} from "./row.ts";

export const LIFE_ROWS = {
  clone: row<
    {
      readonly pid: Pid;
      readonly name?: string;
      readonly grants?: readonly string[];
      readonly budget?: Amounts;
      readonly ref?: string;
    } & Redoing &
      AtPlace,
    Promise<Pid>
  >({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "starts a twin beside a process, which may have ended: the same program and rights, going on from what that has recorded so far; `from` and `set` as of resume",
    schema: args(
      {
        pid,
        place,
        name: label,
        grants: { type: "array", items: text, maxItems: LIMITS.grantsMax },
        budget: amounts,
        ref: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        ...redoing,
      },
      ["pid"],
    ),
    target: onProcess,
    recordedAt: atPlace,
    handle: async (host, caller, a, _target, draft) =>
      placed<Pid>(caller, "clone", a.place, async (record) => {
        const original = await managedBy(host, caller, a.pid, "clone");
        await assertMay(host, caller, "clone", { right: "proc.spawn", resource: original.identity.program.name });
        await assertMaySay(host, caller, original, a.set, "clone");
        const { input, hasEnded } = original;
        // What has ended may be of code that the host would not load for anybody.
        const load = (): Promise<Program> =>
          hasEnded ? loadProgram(host, caller, sourceOf(original), input) : programAgain(host, original);
        const twin = await host.processes.lives.clone(caller, original, load, {
          isAbove: await isBelow(host, original, caller.pid),
          name: a.name,
          grants: a.grants === undefined ? undefined : parseGrants(a.grants),
          budget: a.budget,
          ref: a.ref,
          from: a.from,
          set: a.set,
          along: record,
          rider: draft,
        });
        return twin.pid;
      }),
  }),
  upgrade: row<{ readonly pid: Pid; readonly program: NamedProgram; readonly waitMs?: number }, Promise<void>>({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "gives a process another program, once no call of it is under way: it goes on from its journal, under the same pid",
    plain: namedProgram,
    schema: args({ pid, program: { anyOf: [text, PROGRAM_SOURCE] }, waitMs: integer }, ["pid", "program"]),
    target: onProcess,
    // It will run with the rights of the process, not with the caller's.
    alsoNeeds: ({ program }, caller) => {
      const { name, module } = isProgram(program) ? { name: program.name } : sourceFor(caller, program);
      return [{ right: "kernel.module", resource: name ?? module ?? "" }];
    },
    audited: ({ program: _program, ...rest }) => rest,
    handle: async (host, caller, a, _target, draft) => {
      const process = await managedBy(host, caller, a.pid, "upgrade");
      const program = await programOf(host, caller, a.program, process.input);
      return host.processes.lives.upgrade(caller, process, program, a.waitMs, draft);
    },
  }),
  specialize: row<
    { readonly pid: Pid; readonly grants?: readonly string[]; readonly tier?: Tier; readonly ref?: string },
    Promise<void>
  >({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "narrows a process for something special: its rights and those of what is below it, its tier, what it is about",
    schema: args(
      {
        pid,
        grants: { type: "array", items: text, maxItems: LIMITS.grantsMax },
        tier: { type: "string", enum: TIERS },
        ref: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
      },
      ["pid"],
    ),
    target: onProcess,
    handle: async (host, caller, a, _target, draft) => {
      const grants = a.grants === undefined ? undefined : parseGrants(a.grants);
      const process = await managedBy(host, caller, a.pid, "specialize");
      return host.processes.lives.specialize(process, { grants, tier: a.tier, ref: a.ref }, draft);
    },
  }),
  split: row<
    {
      readonly pid: Pid;
      readonly parts: readonly {
        readonly name?: string;
        readonly input?: unknown;
        readonly grants?: readonly string[];
        readonly budget?: Amounts;
        readonly ref?: string;
        readonly mail?: { readonly kind?: MessageKind; readonly from?: Pid };
      }[];
    },
    Promise<readonly Pid[]>
  >({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "starts parts of a process below it: its program with an input, a share of its budget, and messages that wait for it",
    schema: args(
      {
        pid,
        parts: {
          type: "array",
          minItems: 1,
          maxItems: LIMITS.partsMax,
          items: args({
            name: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
            input: anything,
            grants: { type: "array", items: text, maxItems: LIMITS.grantsMax },
            budget: amounts,
            ref: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
            mail: args({ kind: { type: "string", enum: MESSAGE_KINDS }, from: pid }),
          }),
        },
      },
      ["pid", "parts"],
    ),
    target: onProcess,
    audited: ({ pid: number, parts }) => ({ pid: number, parts: parts.length }),
    handle: async (host, caller, a) => {
      const process = await managedBy(host, caller, a.pid, "split");
      await assertMay(host, caller, "split", { right: "proc.spawn", resource: process.identity.program.name });
      const parts = a.parts.map(({ grants, ...part }) => ({
        ...part,
        grants: grants === undefined ? undefined : parseGrants(grants),
      }));
      return host.processes.lives.split(caller, process, parts, () => programAgain(host, process));
    },
  }),
  merge: row<{ readonly pid: Pid; readonly into: Pid }, Promise<void>>({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "ends a process and leaves another its messages and the rest of its budget; that one keeps the rights that both had",
    schema: args({ pid, into: pid }, ["pid", "into"]),
    target: onProcess,
    alsoNeeds: ({ into }) => [{ right: "proc.signal", resource: `/proc/${into}` }],
    handle: async (host, caller, a, _target, draft) => {
      const from = await managedBy(host, caller, a.pid, "merge");
      return host.processes.lives.merge(caller, from, await managedBy(host, caller, a.into, "merge"), draft);
    },
  }),
} as const;
