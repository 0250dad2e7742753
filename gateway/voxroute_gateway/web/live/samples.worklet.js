// Runs in the audio thread: floats to 16 bits, in pieces of 100 ms.

const PIECE = 2400;

class Samples extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    for (const value of channel) {
      this.piece[this.filled] = Math.max(-1, Math.min(1, value)) * 32767;
      this.filled += 1;
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece.buffer, [this.piece.buffer]);
        this.piece = new Int16Array(PIECE);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("samples", Samples);
