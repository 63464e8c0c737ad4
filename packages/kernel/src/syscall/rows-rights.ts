// Rows about rights: what a process may do and why, grants at run time, and questions to people.

import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid, toPid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { toPath } from "../base/path.ts";
import type { Explanation } from "../cap/capability.ts";
import { type Effect, formatGrant } from "../cap/grant.ts";
import { assertAmounts } from "../budget/resource.ts";
import { RIGHTS, parseGrants } from "../cap/rights.ts";
import { type Answer, type Ask, VERDICTS } from "../proc/ask-table.ts";
import type { Process } from "../proc/process.ts";
import { nameOf } from "./admission.ts";
import type { Host } from "./host.ts";
import { type Need, isFree, isGoverned, verdictOf } from "./policy.ts";
import { taken } from "./placed.ts";
import { anything, args, atPlace, integer, managedBy, onProcess, pid, place, processOf, row, text } from "./row.ts";

export interface CapabilityLayer {
  /** The process that was narrowed by it; `<pid>.0` is what its program declares. */
  readonly layer: string;
  readonly grants: readonly { readonly id: string; readonly grant: string; readonly by?: Pid }[];
}

const grants = { type: "array", items: text, maxItems: LIMITS.grantsMax, minItems: 1 } as const;

export const RIGHT_ROWS = {
  caps: row<{ readonly pid: Pid }, Promise<readonly CapabilityLayer[]>>({
    right: "cap.read",
    kind: "query",
    summary: "the grants of a process, one layer for each ancestor that narrowed them; none is every right",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: async (host, _caller, a) => {
      const { capability } = await processOf(host, a.pid, "caps");
      return capability.layers.map((layer) => ({
        layer: layer.id,
        grants: layer.rules.map(({ id, grant, granter }) => ({
          id,
          grant: formatGrant(grant),
          ...(granter === undefined ? {} : { by: granter.pid }),
        })),
      }));
    },
  }),
  why: row<
    {
      readonly pid: Pid;
      readonly right: string;
      readonly resource: string;
      readonly arguments?: unknown;
      /** The call that it is for: a policy may look at it. */
      readonly call?: string;
    },
    Promise<Explanation & { readonly policy?: string }>
  >({
    right: "cap.read",
    kind: "query",
    summary: "whether a process may do something, and what each layer of its rights, and the policy, says to it",
    schema: args({ pid, right: text, resource: text, arguments: { type: "object" }, call: text }, [
      "pid",
      "right",
      "resource",
    ]),
    target: onProcess,
    handle: async (host, _caller, a) => {
      const { right, arguments: given = {}, call = "why" } = a;
      // As a call would judge it: by the canonical path.
      const resource = right.startsWith("fs.") && !a.resource.includes("*") ? toPath(a.resource) : a.resource;
      if (!Object.hasOwn(RIGHTS, right))
        throw new KernelError(
          "EINVAL",
          `${JSON.stringify(right)} is no right; \`docs/reference/rights.md\` lists them`,
          {
            syscall: "why",
          },
        );
      const process = await processOf(host, a.pid, "why");
      const explanation = process.capability.explain(right, resource, given);
      if (!isGoverned(host, process)) return explanation;
      const verdict = await verdictOf(host, process, call, { right, resource }, given);
      return { ...explanation, effect: strictest(explanation.effect, verdict.effect), policy: verdict.reason };
    },
  }),
  policy: row<
    { readonly user?: string },
    { readonly name: string; readonly user: string; readonly permissions: readonly string[] }
  >({
    right: "cap.read",
    kind: "query",
    summary: "the policy of this host, and what it says of a user",
    schema: args({ user: { type: "string", minLength: 1, maxLength: 256 } }),
    target: () => ({ resource: "/sys/policy" }),
    handle: ({ governance }, caller, { user = caller.identity.user }) => ({
      name: governance?.name ?? "allow-all",
      user,
      permissions: governance?.permissions(user) ?? ["*"],
    }),
  }),
  grant: row<{ readonly pid: Pid; readonly grants: readonly string[] }, Promise<readonly string[]>>({
    right: "cap.grant",
    kind: "mutation",
    summary:
      "adds grants to a running process and what is below it, never beyond what the caller and its ancestors may do",
    schema: args({ pid, grants }, ["pid", "grants"]),
    target: onProcess,
    handle: async (host, caller, a, _target, draft) => {
      const added = parseGrants(a.grants);
      const process = await managedBy(host, caller, a.pid, "grant");
      assertNotOwner(process.pid, "grant");
      assertRunning(process);
      const own = process.capability.layers.find(({ id }) => id === String(process.pid));
      if (own !== undefined) return host.layers.grant(own, added, caller.pid === PID_OWNER ? undefined : caller, draft);
      if (added.some(({ effect }) => effect === "allow")) {
        throw new KernelError(
          "EINVAL",
          `process ${a.pid} was given no grants of its own: it may do all that its parent, its role and its pass leave it, and a grant adds nothing to that; deny or ask narrow it`,
          { syscall: "grant", pid: a.pid },
        );
      }
      const layer = host.layers.create(String(process.pid), [
        { effect: "allow", right: "*", resource: "**" },
        ...added,
      ]);
      await host.processes.narrow(process, [layer], draft);
      return layer.rules.slice(1).map(({ id }) => id);
    },
  }),
  revoke: row<{ readonly id: string }, Promise<void>>({
    right: "cap.revoke",
    kind: "mutation",
    summary: "takes a grant back from a process and from everything that has it by that process, at once",
    schema: args({ id: { type: "string", minLength: 3, maxLength: 64 } }, ["id"]),
    target: (_host, _caller, { id }) => ({ resource: `/proc/${/^\d+/.exec(id)?.[0] ?? "0"}` }),
    handle: async (host, caller, { id }, _target, draft) => {
      const layer = caller.capability.layers.find((one) => one.get(id) !== undefined);
      // To take back what narrows oneself would be to widen.
      if (layer !== undefined && layer.get(id)?.grant.effect !== "allow")
        throw new KernelError("EPERM", `process ${caller.pid} is narrowed by ${id} itself; somebody else revokes it`, {
          syscall: "revoke",
          pid: caller.pid,
        });
      const { grant } = (await host.layers.ruleOf(id)).rule;
      // Others get by it what they did not have: by who has everything, or all that is below it has.
      // What a pass gives is its issuer's: the right to revoke decides.
      const [number] = /^\d+/.exec(id) ?? [];
      const whose = toPid(Number(number ?? PID_OWNER));
      if (number !== undefined) {
        assertNotOwner(whose, "revoke");
        await managedBy(host, caller, whose, "revoke");
      }
      if (grant.effect !== "allow" && !caller.capability.isAll && !host.processes.family.isWithin(whose, caller.pid))
        throw new KernelError(
          "EPERM",
          `${id} narrows process ${whose}, which process ${caller.pid} is not above; who has all rights revokes it`,
          { syscall: "revoke", pid: caller.pid },
        );
      return host.layers.revoke(id, draft);
    },
  }),
  ask: row<
    {
      readonly place: string;
      readonly question: string;
      readonly choices?: readonly string[];
      readonly timeoutMs?: number;
      readonly otherwise?: unknown;
      readonly signal?: AbortSignal;
    },
    Promise<unknown>
  >({
    right: "ask.raise",
    kind: "mutation",
    waits: true,
    summary: "asks a person and waits, over restarts too; the answer is recorded",
    schema: args(
      {
        place,
        question: { type: "string", minLength: 1, maxLength: 4096 },
        choices: { type: "array", items: text, maxItems: 100 },
        timeoutMs: { type: "integer", minimum: 1 },
        otherwise: anything,
      },
      ["place", "question"],
    ),
    target: (_host, caller) => caller.self,
    recordedAt: atPlace,
    handle: ask,
  }),
  secret: row<{ readonly name: string }, Promise<string>>({
    right: "secret.read",
    // Who reads one is in the audit trail; its value is nowhere, and is asked for again after a restart.
    kind: "mutation",
    summary: "the value of a secret: masked wherever anything is recorded or told from then on",
    schema: args({ name: { type: "string", minLength: 1, maxLength: 128 } }, ["name"]),
    target: (_host, _caller, { name }) => ({ resource: name }),
    handle: (host, _caller, { name }) => host.vault.get(name),
  }),
  asks: row<Record<string, never>, readonly Ask[]>({
    right: "ask.read",
    kind: "query",
    summary: "questions that wait for a person, oldest first",
    schema: args({}),
    target: () => ({ resource: "/sys/asks" }),
    handle: (host) => host.asks.pending,
  }),
  answer: row<
    {
      readonly id: number;
      readonly verdict: Answer["verdict"];
      readonly value?: unknown;
      readonly why?: string;
    },
    Promise<void>
  >({
    right: "ask.answer",
    kind: "mutation",
    summary: "answers a question: allow, deny, edit the arguments, or reply with a value",
    schema: args({ id: integer, verdict: { type: "string", enum: VERDICTS }, value: anything, why: text }, [
      "id",
      "verdict",
    ]),
    target: (_host, _caller, { id }) => ({ resource: `/sys/asks/${id}` }),
    handle: async (host, caller, a, _target, draft) => {
      const asked = host.asks.get(a.id);
      // A question of a program is its user's affair; about a call decides who may make that.
      if (asked?.kind === "question") await managedBy(host, caller, asked.pid, "answer");
      if (asked !== undefined && !isFree(host, caller) && a.verdict !== "deny")
        await assertMayAnswer(host, caller, asked);
      if (a.verdict === "edit" && (typeof a.value !== "object" || a.value === null || Array.isArray(a.value)))
        throw new KernelError("EINVAL", "edit takes the arguments to replace, as an object", { syscall: "answer" });
      if (a.verdict === "edit" && asked !== undefined) assertEdit(asked, a.value as Readonly<Record<string, unknown>>);
      const choices = asked?.kind === "question" ? choicesOf(asked) : [];
      if (a.verdict === "reply" && choices.length > 0 && !choices.some((choice) => choice === a.value))
        throw new KernelError("EINVAL", `question ${a.id} takes one of ${choices.join(", ")}`, { syscall: "answer" });
      const isOthers = a.verdict === "edit" && asked?.kind === "right" && !isFree(host, caller);
      const needs = isOthers ? await needsOfEdit(host, caller, asked, a.value) : undefined;
      await host.asks.answer(
        a.id,
        {
          verdict: a.verdict,
          by: caller.identity.user,
          at: host.committer.now(),
          ...(a.value === undefined ? {} : { value: a.value }),
          ...(a.why === undefined ? {} : { why: a.why }),
          ...(needs === undefined ? {} : { needs }),
        },
        draft,
      );
    },
  }),
} as const;

/**
 * An edit that cannot be what was asked for would end whoever waits for it.
 * @throws {EINVAL}
 */
function assertEdit({ id, kind, args: shown, fields }: Ask, value: Readonly<Record<string, unknown>>): void {
  const known = kind === "budget" ? Object.keys(shown ?? {}) : fields;
  const wrong = known === undefined ? undefined : Object.keys(value).find((name) => !known.includes(name));
  if (wrong !== undefined)
    throw new KernelError("EINVAL", `question ${id} has no ${wrong} to edit; it has ${known?.join(", ") ?? ""}`, {
      syscall: "answer",
    });
  if (kind === "budget") assertAmounts(value);
}

/**
 * Who allows something may do it itself without asking; nobody answers for itself or for what it comes from.
 * @throws {EPERM}
 */
async function assertMayAnswer(host: Host, caller: Process, asked: Ask): Promise<void> {
  const { right, resource } = asked;
  const isOwn = host.processes.family.isWithin(caller.pid, asked.pid);
  const mayItself =
    right === undefined ||
    resource === undefined ||
    (await mayWithout(host, caller, asked.call ?? "answer", { right, resource }, asked.args));
  const spends = asked.kind === "budget" && !host.processes.family.isWithin(asked.pid, caller.pid);
  if (!isOwn && mayItself && !spends) return;
  throw new KernelError(
    "EPERM",
    `process ${caller.pid} cannot answer question ${asked.id}: ${isOwn ? "it is its own" : "it may not do it itself"}; somebody else answers`,
    { syscall: "answer", pid: caller.pid },
  );
}

/**
 * What a call needs as it was edited, by name: all of it is what the answerer may do itself.
 * @throws {EPERM} it may not · {EAGAIN} nobody waits for the answer now
 */
async function needsOfEdit(host: Host, caller: Process, asked: Ask, value: unknown): Promise<readonly string[]> {
  const found = await host.asks.needsWith(asked.id, value);
  if (found === undefined)
    throw new KernelError(
      "EAGAIN",
      `process ${asked.pid}, which has asked question ${asked.id}, does not run now: only the owner edits its call; allow or deny it, or try again`,
      { syscall: "answer", pid: caller.pid },
    );
  for (const need of found.needs)
    if (!(await mayWithout(host, caller, asked.call ?? "answer", need, found.conditions)))
      throw new KernelError(
        "EPERM",
        `process ${caller.pid} cannot edit question ${asked.id} so that it needs ${need.right}:${need.resource}: it may not do that itself`,
        { syscall: "answer", pid: caller.pid },
      );
  return found.needs.map(nameOf);
}

/** Whether rights allow it without asking; a policy that wants somebody asked has asked whoever answers. */
const mayWithout = async (host: Host, caller: Process, call: string, need: Need, args: unknown): Promise<boolean> =>
  caller.capability.decide(need.right, need.resource, args).effect === "allow" &&
  (await verdictOf(host, caller, call, need, args)).effect !== "deny";

const strictest = (one: Effect, two: Effect): Effect =>
  one === "deny" || two === "deny" ? "deny" : one === "ask" || two === "ask" ? "ask" : "allow";

const choicesOf = (asked: Ask): readonly unknown[] => {
  const { choices } = (asked.args ?? {}) as { readonly choices?: readonly unknown[] };
  return choices ?? [];
};

function ask(
  host: Host,
  caller: Process,
  a: {
    readonly place: string;
    readonly question: string;
    readonly choices?: readonly string[];
    readonly timeoutMs?: number;
    readonly otherwise?: unknown;
    readonly signal?: AbortSignal;
  },
): Promise<unknown> {
  return taken(caller, "ask", a.place, async () => {
    const answer = await host.asks.raise(
      caller,
      {
        key: `ask ${a.place}`,
        kind: "question",
        text: a.question,
        ...(a.choices === undefined ? {} : { args: { choices: a.choices } }),
        ...(a.timeoutMs === undefined ? {} : { timeoutMs: a.timeoutMs }),
        ...(a.otherwise === undefined ? {} : { otherwise: a.otherwise }),
        isLasting: true,
      },
      a.signal,
    );
    // Asked again it has its time again.
    if (answer.isLate === true && answer.verdict === "deny") await host.asks.consume(answer.id);
    if (answer.verdict === "deny")
      throw new KernelError(
        answer.isLate === true ? "ETIMEDOUT" : "ECANCELED",
        `${answer.by} did not answer ${JSON.stringify(a.question)}${answer.why === undefined ? "" : `: ${answer.why}`}`,
        {
          syscall: "ask",
          pid: caller.pid,
        },
      );
    await caller.journal?.end(a.place, { value: answer.value }).done;
    await host.asks.consume(answer.id);
    caller.usage.steps++;
    return answer.value;
  });
}

function assertRunning(process: Process): void {
  if (process.isAlive && !process.isEnding) return;
  throw new KernelError("ESRCH", `process ${process.pid} has ended`, { syscall: "grant", pid: process.pid });
}

/** Whoever could narrow the owner would shut it out of its own host. */
function assertNotOwner(pid: Pid, syscall: string): void {
  if (pid === PID_OWNER)
    throw new KernelError("EPERM", "the owner of this host has every right; nobody takes one from it", {
      syscall,
      pid,
    });
}
