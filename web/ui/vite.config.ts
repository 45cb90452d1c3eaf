import { defineConfig } from 'vitest/config';

export default defineConfig({
  // The gateway serves the page at `/` and everything else of the build below `/static/`.
  base: '/static/',
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: ['chrome123', 'firefox121', 'safari17.5'],
    // Nothing inline: the page is served under a policy that allows neither inline scripts nor data: scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 150,
  },
  server: {
    proxy: {
      '/api': 'http://127.0.0.1:6066',
      '/ws': { target: 'ws://127.0.0.1:6066', ws: true },
    },
  },
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
