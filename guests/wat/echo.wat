;; Sends back bidirectional streams and datagrams: a handler written by hand, which shows the ABI.
;;
;; This is a core module. Its imports and exports bear the canonical names of the world
;; `session-handler`, so `wit-component` (or `wasm-tools component embed`, then `new`) makes a
;; component of it. Any language that can write these names can be a guest.
;;
;; How WIT values become core values:
;;   u64                  i64
;;   u32, s32, bool       i32
;;   enum                 i32, the number of the case, from 0
;;   list<u8>, string     i32 address, i32 length; UTF-8
;;   option<T>            i32 (0 none, 1 some), then T; the T of none is zeros
;;   record               its fields, one after the other
;;   own or borrowed session     i32 handle
;;   borrowed handler, `self`    i32 representation: what `resource-new` was given
;; Parameters that come to more than 16 core values lie in memory instead, and one i32 address is
;; passed; a result that comes to more than one is written to an address passed last, here $ret.
;;
;; Of `result<_, error>` there are 16 bytes at $ret:
;;   0: u8   0 ok, 1 error
;;   4: u8   the case of `error`, from 0: `unknown-stream`, `wrong-direction`, ...
;;   8: u32, u32   address and length of the text of `invalid`
(module
  (import "wharf:webtransport/transport@0.1.0" "[method]session.send"
    (func $send (param $session i32) (param $id i64)
      (param $data i32) (param $data-len i32) (param $fin i32) (param $ret i32)))
  (import "wharf:webtransport/transport@0.1.0" "[method]session.reset-stream"
    (func $reset-stream (param $session i32) (param $id i64) (param $code i32) (param $ret i32)))
  (import "wharf:webtransport/transport@0.1.0" "[method]session.stop-sending"
    (func $stop-sending (param $session i32) (param $id i64) (param $code i32) (param $ret i32)))
  (import "wharf:webtransport/transport@0.1.0" "[method]session.send-datagram"
    (func $send-datagram (param $session i32)
      (param $data i32) (param $data-len i32) (param $ret i32)))
  (import "wharf:webtransport/transport@0.1.0" "[resource-drop]session"
    (func $session-drop (param $session i32)))
  ;; A guest makes the handles of its own resources: a representation in, a handle out.
  (import "[export]wharf:webtransport/callbacks@0.1.0" "[resource-new]handler"
    (func $handler-new (param $representation i32) (result i32)))

  (memory (export "memory") 1)

  ;; Every result is written here and read by nobody: a stream may be reset, or the session lost, at
  ;; any moment, and then there is nobody left to answer.
  (global $ret i32 (i32.const 0))

  ;; Arguments that lie in memory belong to the guest. Nothing outlives its callback, so they are
  ;; stacked from $bottom on, and each callback that got any ends by forgetting them all.
  (global $bottom i32 (i32.const 16))
  (global $top (mut i32) (i32.const 16))
  (func $forget (global.set $top (global.get $bottom)))

  ;; The host asks here for memory, for lists and strings. $old is 0: strings stay UTF-8, so nothing
  ;; that was allocated ever grows.
  (func (export "cabi_realloc") (param $old i32) (param $old-len i32)
    (param $align i32) (param $len i32) (result i32)
    (local $start i32) (local $missing i32)
    ;; $start: $top, rounded up to $align, which is a power of two.
    (local.set $start (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $start) (local.get $len)))
    ;; $missing: bytes beyond the end of the memory, if positive; pages have 2^16.
    (local.set $missing (i32.sub (global.get $top) (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq (i32.const -1) (memory.grow
              (i32.shr_u (i32.add (local.get $missing) (i32.const 0xffff)) (i32.const 16))))
          (then (unreachable)))))
    (local.get $start))

  ;; constructor(session: session, request: request)
  ;;
  ;; Both together come to 20 core values, so they lie in memory:
  ;;    0: u32        session, an owned handle
  ;;    4: u32, u32   scheme
  ;;   12: u32, u32   authority
  ;;   20: u32, u32   path
  ;;   28: u32, u32   token
  ;;   36: u8         origin: 0 none, 1 some
  ;;   40: u32, u32   origin, if some
  ;;   48: u32, u32   fields: address and count; each has 16 bytes: name, value
  ;;   56: u32, u32   offered-protocols: address and count; each has 8 bytes
  ;;   64: u32, u32   peer
  ;;   72: u8         http: 0 http3, 1 http2
  ;;   73: u8         role: 0 server, 1 client
  ;;
  ;; A handler keeps nothing but its session, so the session's handle is its representation.
  (func (export "wharf:webtransport/callbacks@0.1.0#[constructor]handler")
    (param $arguments i32) (result i32)
    (call $forget)
    (call $handler-new (i32.load (local.get $arguments))))

  ;; The host dropped the handler. Hosts may not: `on-closed` is the place to release things.
  (func (export "wharf:webtransport/callbacks@0.1.0#[dtor]handler") (param $session i32)
    (call $session-drop (local.get $session)))

  ;; on-stream-opened(id: stream-id, kind: stream-kind), of which 0 is bidi and 1 uni
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stream-opened")
    (param $session i32) (param $id i64) (param $kind i32))

  ;; on-stream-data(id: stream-id, data: list<u8>, fin: bool)
  ;;
  ;; Never `would-block`: the host delivers a piece only when there is room for its echo. On a uni
  ;; stream there is no way back: `wrong-direction`, and so nothing is sent.
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stream-data")
    (param $session i32) (param $id i64) (param $data i32) (param $data-len i32) (param $fin i32)
    (call $send (local.get $session) (local.get $id)
      (local.get $data) (local.get $data-len) (local.get $fin) (global.get $ret))
    (call $forget))

  ;; on-stream-reset(id: stream-id, code: option<u32>)
  ;;
  ;; The echo ends as its original did. The code of none is 0, which does well as a code.
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stream-reset")
    (param $session i32) (param $id i64) (param $is-some i32) (param $code i32)
    (call $reset-stream
      (local.get $session) (local.get $id) (local.get $code) (global.get $ret)))

  ;; on-stop-sending(id: stream-id, code: option<u32>)
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stop-sending")
    (param $session i32) (param $id i64) (param $is-some i32) (param $code i32)
    (call $stop-sending
      (local.get $session) (local.get $id) (local.get $code) (global.get $ret)))

  ;; on-stream-writable(id: stream-id)
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stream-writable")
    (param $session i32) (param $id i64))

  ;; on-stream-closed(id: stream-id)
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-stream-closed")
    (param $session i32) (param $id i64))

  ;; on-datagram(data: list<u8>)
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-datagram")
    (param $session i32) (param $data i32) (param $data-len i32)
    (call $send-datagram
      (local.get $session) (local.get $data) (local.get $data-len) (global.get $ret))
    (call $forget))

  ;; on-drain()
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-drain")
    (param $session i32))

  ;; on-timer(timer: u64)
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-timer")
    (param $session i32) (param $timer i64))

  ;; on-closed(info: close-info): code, reason, by (0 local, 1 peer, 2 host), clean
  (func (export "wharf:webtransport/callbacks@0.1.0#[method]handler.on-closed")
    (param $session i32)
    (param $code i32) (param $reason i32) (param $reason-len i32) (param $by i32) (param $clean i32)
    (call $forget)))
