// System libraries: calls of the table under the names of what they are about, for whoever finds its way by services. What
// they do happens with the rights and the budget of the caller.

import {
  SYSCALLS,
  type ServiceCall,
  type ServiceMethod,
  type ServiceModule,
  type SyscallArgs,
  type SyscallName,
} from "@ergos/kernel";

/** A service whose methods are rows of the table. */
function library(
  name: string,
  description: string,
  methods: Readonly<Record<string, SyscallName>>,
  needs: readonly string[] = [],
): ServiceModule {
  const rows = Object.entries(methods);
  const methodOf = (row: SyscallName): ServiceMethod => {
    const { summary, schema, kind } = SYSCALLS[row];
    return { summary, input: schema, tool: kind === "query" ? "pure" : "once" };
  };
  return {
    name,
    description,
    needs,
    contract: {
      name: `ergos/${name}/1`,
      methods: Object.fromEntries(rows.map(([method, row]) => [method, methodOf(row)])),
    },
    create: () =>
      Object.fromEntries(
        rows.map(([method, row]) => [
          method,
          // As the contract, whose schemas are those of the rows, has just checked.
          async (args: unknown, { os }: ServiceCall) => os.call(row, args as SyscallArgs<typeof row>),
        ]),
      ),
  };
}

export const SYSTEM_LIBRARIES: readonly ServiceModule[] = [
  library("processes", "starts, lists, signals and awaits processes", {
    spawn: "spawn",
    list: "ps",
    wait: "wait",
    kill: "kill",
    resume: "resume",
    reparent: "reparent",
    sleep: "sleep",
    wake: "wake",
  }),
  library(
    "entities",
    "things with a state, which changes as their types allow",
    {
      define: "defineEntity",
      create: "createEntity",
      transition: "transition",
      get: "entity",
      list: "entities",
      history: "entityHistory",
    },
    ["processes"],
  ),
  library(
    "scheduler",
    "what is started by the clock",
    { add: "schedule", list: "schedules", set: "setSchedule", remove: "unschedule" },
    ["processes"],
  ),
  library(
    "events",
    "topics, and what is done when something happens",
    { publish: "publish", trigger: "trigger", triggers: "triggers", untrigger: "untrigger", errors: "errors" },
    ["processes"],
  ),
  library("queues", "work that waits for whoever may do it", {
    submit: "submit",
    claim: "claim",
    renew: "renew",
    complete: "complete",
    fail: "fail",
    cancel: "cancelTask",
    resubmit: "resubmit",
    list: "tasks",
  }),
];
