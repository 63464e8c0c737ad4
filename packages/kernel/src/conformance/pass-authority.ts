// The law of `Signer` and `PassAuthority` (abi/signer.ts, abi/pass.ts) as cases.

import type { PassAuthority, PassRequest } from "../abi/pass.ts";
import type { Signer } from "../abi/signer.ts";
import { type ConformanceCase, rejects, same } from "./case.ts";

export interface PassSubject {
  readonly signer: Signer;
  readonly authority: PassAuthority;
  /** One of another host, with other keys. */
  readonly other: { readonly signer: Signer; readonly authority: PassAuthority };
}

const NOW = Date.parse("2026-01-01T00:00:00Z");
const REQUEST: PassRequest = {
  subject: "jane",
  pid: 7,
  audience: "ergos:one",
  grants: ["fs.read:/srv/**"],
  issued: NOW,
  notBefore: NOW,
  expires: NOW + 3_600_000,
};
const attempt = async (work: () => unknown): Promise<unknown> => work();

export const PASS_CASES: readonly ConformanceCase<PassSubject>[] = [
  {
    name: "a signature is verified by its own host, over exactly its text",
    run: async ({ signer, other }) => {
      const signature = signer.sign("a text");
      same(signer.verify("a text", signature, signer.keyId), true, "its own");
      same(signer.verify("a text.", signature, signer.keyId), false, "of another text");
      same(signer.verify("a text", signature.slice(1), signer.keyId), false, "cut off");
      same(signer.verify("a text", "", signer.keyId), false, "empty");
      same(signer.verify("a text", signature, other.signer.keyId), false, "under another key");
      same(other.signer.verify("a text", signature, signer.keyId), false, "by another host");
    },
  },
  {
    name: "a pass says what was issued",
    run: async ({ authority }) => {
      const { pass, id } = authority.issue(REQUEST);
      const claims = authority.verify(pass, ["ergos:two", "ergos:one"], NOW);
      same(claims.ids, [id], "its ids");
      same([claims.subject, claims.pid, claims.layers], ["jane", 7, [["fs.read:/srv/**"]]], "what it says");
      same([claims.audience, claims.expires], [["ergos:one"], REQUEST.expires], "for whom, and until when");
      same(authority.issue(REQUEST).id === id, false, "the same id twice");
    },
  },
  {
    name: "one that is expired, early, for somebody else, or of another host is EACCES",
    run: async ({ authority, other }) => {
      const { pass } = authority.issue(REQUEST);
      const verify = (by: PassAuthority, text: string, audience: string, now: number): Promise<unknown> =>
        attempt(() => by.verify(text, [audience], now));
      await rejects(verify(authority, pass, "ergos:one", REQUEST.expires), "EACCES", "expired");
      await rejects(verify(authority, pass, "ergos:one", NOW - 3_600_000), "EACCES", "not valid yet");
      await rejects(verify(authority, pass, "ergos:two", NOW), "EACCES", "for somebody else");
      await rejects(verify(other.authority, pass, "ergos:one", NOW), "EACCES", "of another host");
    },
  },
  {
    name: "no pass with one character changed, cut off anywhere, or made of nothing is valid",
    run: async ({ authority }) => {
      const { pass } = authority.issue(REQUEST);
      const forged = Array.from(
        pass,
        (character, at) => pass.slice(0, at) + (character === "A" ? "B" : "A") + pass.slice(at + 1),
      );
      for (const text of ["", ".", "a.b.c", `${pass}x`, pass + pass, ...forged])
        await rejects(
          attempt(() => authority.verify(text, ["ergos:one"], NOW)),
          "EACCES",
          text.slice(0, 40),
        );
      for (let length = 0; length < pass.length; length += 7)
        await rejects(
          attempt(() => authority.verify(pass.slice(0, length), ["ergos:one"], NOW)),
          "EACCES",
          `${length} characters`,
        );
    },
  },
];
