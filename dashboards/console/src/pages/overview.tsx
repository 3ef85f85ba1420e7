import { Page } from "../page";

export function Overview() {
  return <Page title="Overview">…</Page>;
}
