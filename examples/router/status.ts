// The tool of the technical desk.

export default ({ service }: { readonly service: string }): { readonly service: string; readonly state: string } => ({
  service,
  state: service === "login" ? "degraded" : "up",
});
