// The law of `Governance` (abi/governance.ts) as cases, over any policy.

import type { Governance, GovernanceRequest, GovernanceVerdict } from "../abi/governance.ts";
import { type ConformanceCase, same } from "./case.ts";

const REQUEST: GovernanceRequest = {
  user: "jane",
  pid: 2,
  process: "agent",
  call: "write",
  right: "fs.write",
  resource: "/srv/a",
  args: { path: "/srv/a" },
  at: 0,
};

const isVerdict = ({ effect, reason }: GovernanceVerdict): boolean =>
  ["allow", "ask", "deny"].includes(effect) && typeof reason === "string" && reason.length > 0;

/** Whatever a program may have put into its call, and names that mean something to JavaScript. */
const HOSTILE: readonly Partial<GovernanceRequest>[] = [
  { user: "" },
  { user: "__proto__" },
  { user: "constructor", group: "toString" },
  { user: 'x" || true || "' },
  { user: "*" },
  { resource: "" },
  { resource: "/srv/../etc" },
  { resource: "x".repeat(4096) },
  { right: "no.such" },
  { args: undefined },
  { args: null },
  { args: "text" },
  { args: { bytes: new Uint8Array(3), deep: { deep: { deep: [1, null, undefined] } } } },
  { args: { __proto__: { path: "/srv/a" } } },
  { at: Number.MAX_SAFE_INTEGER },
];

export const GOVERNANCE_CASES: readonly ConformanceCase<Governance>[] = [
  {
    name: "a verdict says what it is and why",
    run: async (governance) => {
      same(isVerdict(await governance.authorize(REQUEST)), true, "a verdict");
      same(governance.name === "", false, "an empty name");
    },
  },
  {
    name: "the same request has the same verdict, whoever asked in between",
    run: async (governance) => {
      const first = await governance.authorize(REQUEST);
      for (const more of HOSTILE) await governance.authorize({ ...REQUEST, ...more });
      same(await governance.authorize({ ...REQUEST }), first, "the verdict");
    },
  },
  {
    name: "no request makes it fail, nor is one changed",
    run: async (governance) => {
      for (const more of HOSTILE) {
        const request = Object.freeze({ ...REQUEST, ...more });
        same(isVerdict(await governance.authorize(request)), true, JSON.stringify(more));
      }
    },
  },
  {
    name: "what a user may do is told as texts, also of one whom nobody knows",
    run: async (governance) => {
      for (const user of ["jane", "nobody-knows-me", "", "__proto__"])
        same(
          governance.permissions(user).every((one) => typeof one === "string" && one !== ""),
          true,
          user,
        );
    },
  },
];
