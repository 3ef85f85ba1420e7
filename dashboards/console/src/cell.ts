// A value shared by parts of the page, which draw themselves anew when it changes.
import { useEffect, useState } from "preact/hooks";

export class Cell<T> {
  private readers = new Set<() => void>();

  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(value: T): void {
    this.value = value;
    for (const reader of [...this.readers]) reader();
  }

  follow(reader: () => void): () => void {
    this.readers.add(reader);
    return () => this.readers.delete(reader);
  }
}

export function useCell<T>(cell: Cell<T>): T {
  const [, redraw] = useState({});
  useEffect(() => cell.follow(() => redraw({})), [cell]);
  return cell.get();
}
