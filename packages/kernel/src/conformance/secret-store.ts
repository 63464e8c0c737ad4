// The law of `SecretStore` (abi/secret.ts) as cases, over one that holds `SECRETS`.

import type { SecretStore } from "../abi/secret.ts";
import { type ConformanceCase, same } from "./case.ts";

/** What the store of each case holds. */
export const SECRETS: Readonly<Record<string, string>> = { API_KEY: 'tricky "value" ✓\n', SECOND_KEY: "another value" };

export const SECRET_STORE_CASES: readonly ConformanceCase<SecretStore>[] = [
  {
    name: "a value is given as it is, each time",
    run: async (store) => {
      for (let round = 0; round < 2; round++)
        for (const [name, value] of Object.entries(SECRETS)) same(await store.get(name), value, name);
    },
  },
  {
    name: "what it does not have is nothing, whatever the name says",
    run: async (store) => {
      for (const name of ["NONE", "", "api_key", "constructor", "__proto__", "toString", "../API_KEY", "API_KEY\0"])
        same(await store.get(name), undefined, JSON.stringify(name));
    },
  },
  {
    name: "its names are told, without values",
    run: async (store) => {
      const names = await store.names();
      same(
        Object.keys(SECRETS).filter((name) => !names.includes(name)),
        [],
        "names that are left out",
      );
      same(names.length, new Set(names).size, "names that are told twice");
      const told = JSON.stringify([names, store.name]);
      same(
        Object.values(SECRETS).filter((value) => told.includes(value)),
        [],
        "values among them",
      );
    },
  },
];
