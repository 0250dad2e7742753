// Where each row of a long list stands, where rows have heights of their own: sums by a Fenwick tree,
// so that one row's change costs the logarithm of their number.

/** The heights of `n` rows; `heightOf` tells each one's at the beginning. */
export class Heights {
  constructor(n, heightOf) {
    this.heights = new Float64Array(n);
    this.sums = new Float64Array(n + 1);
    for (let i = 0; i < n; i += 1) {
      this.heights[i] = heightOf(i);
      this.sums[i + 1] += this.heights[i];
      const above = i + 1 + ((i + 1) & -(i + 1));
      if (above <= n) this.sums[above] += this.sums[i + 1];
    }
  }

  get length() {
    return this.heights.length;
  }

  /** By how much the row grew. */
  set(index, height) {
    const more = height - this.heights[index];
    if (more === 0) return 0;
    this.heights[index] = height;
    for (let i = index + 1; i <= this.length; i += i & -i) this.sums[i] += more;
    return more;
  }

  /** Where the row begins; that of row `length` is the height of all. */
  top(index) {
    let sum = 0;
    for (let i = index; i > 0; i -= i & -i) sum += this.sums[i];
    return sum;
  }

  /** The row at a height. */
  at(y) {
    let index = 0;
    let left = y;
    for (let step = 1 << Math.floor(Math.log2(this.length || 1)); step > 0; step >>= 1) {
      const next = index + step;
      if (next <= this.length && this.sums[next] <= left) {
        index = next;
        left -= this.sums[next];
      }
    }
    return Math.min(index, Math.max(0, this.length - 1));
  }
}
