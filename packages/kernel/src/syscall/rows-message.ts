// Rows of the message plane.

import type { Pid } from "../base/id.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import { MESSAGE_KINDS, type Message, PRIORITIES } from "../ipc/mailbox.ts";
import type { Letter, Wanted } from "../proc/post-office.ts";
import { assertStill } from "./policy.ts";
import { type AtPlace, ORDER, type Ordered, anything, args, atPlace, integer, pid, place, row, text } from "./row.ts";

const anyKind = { type: "string", enum: MESSAGE_KINDS } as const;
/** What a process may call its own message; the others are the kernel's word. */
const kind = { type: "string", enum: ["message", "task", "reply"] } as const;
const priority = { type: "string", enum: Object.keys(PRIORITIES) } as const;
const milliseconds = { type: "integer", minimum: 1, maximum: 366 * 86_400_000 } as const;
const key = { type: "string", minLength: 1, maxLength: 128 } as const;
const toProcess = (_host: unknown, _caller: unknown, { to }: { readonly to: Pid }): { readonly resource: string } => ({
  resource: `/proc/${to}`,
});

export const MESSAGE_ROWS = {
  send: row<Letter & AtPlace & Ordered, Promise<{ readonly id: string }>>({
    right: "msg.send",
    kind: "mutation",
    summary: "sends a message to a process; `key` makes a repetition the same message",
    schema: args({ place, to: pid, body: anything, kind, priority, ttlMs: milliseconds, replyTo: text, key }, [
      "to",
      "body",
    ]),
    target: toProcess,
    audited: ({ body: _body, ...rest }) => rest,
    recordedAt: atPlace,
    handle: (host, caller, { place: at, [ORDER]: order, ...letter }, _target, draft) =>
      host.post.send(caller, letter, at, draft, order?.along()),
  }),
  receive: row<Wanted & AtPlace, Promise<Message | null>>({
    right: "msg.receive",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "takes the next message, waiting for it; null when none came within `waitMs`",
    schema: args({
      place,
      from: pid,
      kind: anyKind,
      replyTo: text,
      asked: pid,
      waitMs: integer,
      leaseMs: milliseconds,
    }),
    audit: "place",
    recordedAt: atPlace,
    handle: async (host, caller, { place: at, ...wanted }, { resource }, draft) => {
      const assertMay = (): void => assertStill(host, caller, "receive", { right: "msg.receive", resource }, wanted);
      return (await host.post.receive(caller, { ...wanted, assertMay }, at, draft)) ?? null;
    },
  }),
  ack: row<{ readonly id: string }, Promise<void>>({
    right: "msg.receive",
    kind: "mutation",
    summary: "acknowledges a message that was taken under a lease: it does not come back",
    schema: args({ id: key }, ["id"]),
    audit: "none",
    handle: (host, caller, { id }, _target, draft) => host.post.ack(caller, id, draft),
  }),
  request: row<
    Omit<Letter, "replyTo"> & AtPlace & { readonly timeoutMs?: number; readonly signal?: AbortSignal },
    Promise<Message>
  >({
    right: "msg.send",
    kind: "mutation",
    waits: true,
    summary: "sends a message and waits for its reply, or for the end of who was asked",
    schema: args({ place, to: pid, body: anything, kind, priority, timeoutMs: milliseconds, key }, ["to", "body"]),
    target: toProcess,
    alsoNeeds: (_a, caller) => [{ right: "msg.receive", resource: caller.self.resource }],
    audited: ({ body: _body, ...rest }) => rest,
    recordedAt: (at) => [`${at}/ask`, `${at}/reply`],
    handle: async (host, caller, { place: at, timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...letter }, _target, draft) => {
      const [asking, answering] = at === undefined ? [] : [`${at}/ask`, `${at}/reply`];
      const { id } = await host.post.send(caller, { ttlMs: timeoutMs, ...letter }, asking, draft);
      const wanted = { asked: letter.to, replyTo: id, waitMs: timeoutMs, ...(signal === undefined ? {} : { signal }) };
      const reply = await host.post.receive(caller, wanted, answering);
      if (reply !== undefined) return reply;
      throw new KernelError("ETIMEDOUT", `process ${letter.to} has not answered within ${timeoutMs} ms`, {
        syscall: "request",
        pid: caller.pid,
      });
    },
  }),
  escalate: row<{ readonly body: unknown } & AtPlace, Promise<{ readonly id: string }>>({
    right: "msg.send",
    kind: "mutation",
    summary: "tells the process above, before everything else that waits for it",
    schema: args({ place, body: anything }, ["body"]),
    target: (host, caller) => ({ resource: `/proc/${host.processes.family.parentOf(caller.pid) ?? PID_OWNER}` }),
    audited: () => ({}),
    recordedAt: atPlace,
    handle: (host, caller, { place: at, body }, _target, draft) => {
      const to = host.processes.family.parentOf(caller.pid) ?? PID_OWNER;
      return host.post.send(caller, { to, body, kind: "escalation" }, at, draft);
    },
  }),
} as const;

const DEFAULT_TIMEOUT_MS = 60_000;
