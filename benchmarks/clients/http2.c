/* HTTP/2 servers that are fast because they do little: one thread, prebuilt frames, one kind of answer for each port.
 *
 *   http2 STATUS_PORT SMALL_PORT UNARY_PORT MESSAGES_PORT LARGE_PORT ADDRESS...
 *
 * small     200 and a few bytes, once the request is complete
 * unary     a gRPC answer: one message, and trailers with grpc-status 0
 * messages  a gRPC answer of MESSAGES messages of 1 KiB, each in a frame of its own, the streams in turns
 * large     200 and 1 MiB
 *
 * Takes only HTTP/2 with prior knowledge, at each of the addresses. Heads are not decoded, so HPACK's state is not kept
 * for requests. Answers repeat their fields, so they use the dynamic table as real servers do, unless the client allows
 * none. Flow control is respected in both directions. At 127.0.0.1:STATUS_PORT, any request is answered with what was
 * received so far, as JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES 1000
#define MESSAGE_BYTES (5 + 1024)
#define LARGE_BYTES (1 << 20)
#define FRAME_BYTES 16384
#define HEAD_BYTES 9
#define STREAM_LIMIT 250 /* what Go's servers announce */
#define STREAM_SLOTS 2048 /* more are taken, since clients open some before they know the limit */
#define STREAM_WINDOW (1 << 24) /* more than any body that is sent here */
#define CREDIT_BYTES (1 << 20) /* how much is received before the connection's window is opened again */
#define OUT_BYTES (1 << 18)
#define IN_BYTES (1 << 18)
#define RESERVE_BYTES 4096 /* room in the output for control frames */
#define ROUNDS 4 /* how often one connection is written to before others are served */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { STATUS, SMALL, UNARY, MANY, LARGE, KINDS };

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct field {
    int name_index; /* in HPACK's static table; 0 with a literal name */
    const char *name, *value;
};

struct answer {
    struct field head[3], trailer;
    int head_count, has_trailer;
    const char *block; /* the body is this block again and again */
    long block_bytes, body_bytes;
};

struct stream {
    uint32_t id;
    int is_answering, has_head;
    int64_t window;
    long sent;
};

struct connection {
    int fd, kind, is_listener, has_preface, wants_output, is_closed;
    int is_literal, has_table_update, has_head_fields, has_trailer_field;
    int64_t window, initial_window;
    long credit;
    uint32_t last_id, ending; /* `ending`: a stream that ends with the CONTINUATION that is awaited */
    int stream_count;
    struct stream streams[STREAM_SLOTS];
    size_t left_size, out_size, out_sent;
    unsigned char left[HEAD_BYTES + FRAME_BYTES], out[OUT_BYTES];
};

static char small_body[] = "a server says hello\n", unary_body[5 + 16], message[MESSAGE_BYTES], block[FRAME_BYTES];
static struct answer answers[KINDS];
static unsigned char input[HEAD_BYTES + FRAME_BYTES + IN_BYTES];
static long opened, completed, body_bytes, open_streams, connection_count;
static int poller;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void put_frame_head(struct connection *each, long size, int type, int flags, uint32_t id) {
    unsigned char *out = each->out + each->out_size;
    uint32_t id_bytes = htonl(id);
    out[0] = size >> 16, out[1] = size >> 8, out[2] = size, out[3] = type, out[4] = flags;
    memcpy(out + 5, &id_bytes, 4);
    each->out_size += HEAD_BYTES;
}

static void put_control(struct connection *each, int type, int flags, uint32_t id, const void *payload, size_t size) {
    if (each->out_size + HEAD_BYTES + size > OUT_BYTES) {
        each->is_closed = 1;
        return;
    }
    put_frame_head(each, size, type, flags, id);
    if (size) memcpy(each->out + each->out_size, payload, size);
    each->out_size += size;
}

static void put_window_update(struct connection *each, uint32_t id, uint32_t size) {
    size = htonl(size);
    put_control(each, WINDOW_UPDATE, 0, id, &size, 4);
}

static unsigned char *put_text(unsigned char *out, const char *text) {
    *out++ = strlen(text);
    return (unsigned char *)stpcpy((char *)out, text);
}

/* One field of HPACK: in the dynamic table already, to be put there, or literal. */
static unsigned char *put_field(unsigned char *out, const struct field *field, int dynamic_index, int is_literal) {
    if (dynamic_index) {
        *out++ = 0x80 | dynamic_index;
        return out;
    }
    if (!is_literal) {
        *out++ = 0x40 | field->name_index;
    } else if (field->name_index < 15) {
        *out++ = field->name_index;
    } else {
        *out++ = 15;
        *out++ = field->name_index - 15;
    }
    if (!field->name_index) out = put_text(out, field->name);
    return put_text(out, field->value);
}

static unsigned char *begin_block(struct connection *each, unsigned char *out) {
    if (each->is_literal && !each->has_table_update) *out++ = 0x20;
    each->has_table_update = 1;
    return out;
}

static void put_head(struct connection *each, struct stream *stream) {
    const struct answer *answer = &answers[each->kind];
    unsigned char begin[256], *out = begin_block(each, begin);
    *out++ = 0x88;
    for (int number = 0; number < answer->head_count; number++) {
        int index = 62 + answer->head_count - 1 - number + each->has_trailer_field;
        out = put_field(out, &answer->head[number], each->has_head_fields ? index : 0, each->is_literal);
    }
    each->has_head_fields = !each->is_literal;
    put_control(each, HEADERS, END_HEADERS, stream->id, begin, out - begin);
    stream->has_head = 1;
}

static void put_trailers(struct connection *each, struct stream *stream) {
    unsigned char begin[256], *out = begin_block(each, begin);
    out = put_field(out, &answers[each->kind].trailer, each->has_trailer_field ? 62 : 0, each->is_literal);
    each->has_trailer_field = !each->is_literal;
    put_control(each, HEADERS, END_HEADERS | END_STREAM, stream->id, begin, out - begin);
}

static void remove_stream(struct connection *each, struct stream *stream) {
    *stream = each->streams[--each->stream_count];
    open_streams--;
}

/* Put the next frames of one answer. Gives 1 when the stream has ended, 0 when more is to come, -1 when it must wait. */
static int put_answer(struct connection *each, struct stream *stream) {
    const struct answer *answer = &answers[each->kind];
    if (each->out_size + FRAME_BYTES + RESERVE_BYTES > OUT_BYTES) return -1;
    if (!stream->has_head) put_head(each, stream);
    long offset = stream->sent % answer->block_bytes, size = answer->block_bytes - offset;
    if (size > stream->window) size = stream->window;
    if (size > each->window) size = each->window;
    if (size <= 0) return -1;
    int is_last = stream->sent + size == answer->body_bytes;
    put_frame_head(each, size, DATA, is_last && !answer->has_trailer ? END_STREAM : 0, stream->id);
    memcpy(each->out + each->out_size, answer->block + offset, size);
    each->out_size += size, stream->sent += size, stream->window -= size, each->window -= size;
    if (is_last && answer->has_trailer) put_trailers(each, stream);
    return is_last;
}

/* Put frames of all answers, the streams in turns; gives whether more could be sent once there is room. */
static int put_answers(struct connection *each) {
    for (int has_put = 1; has_put;) {
        has_put = 0;
        for (int number = 0; number < each->stream_count;) {
            struct stream *stream = &each->streams[number];
            int done = stream->is_answering ? put_answer(each, stream) : -1;
            has_put |= done >= 0;
            if (done > 0) {
                remove_stream(each, stream);
            } else {
                number++;
            }
        }
    }
    return each->out_size + FRAME_BYTES + RESERVE_BYTES > OUT_BYTES;
}

static void send_output(struct connection *each) {
    ssize_t size = send(each->fd, each->out + each->out_sent, each->out_size - each->out_sent, MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN) each->is_closed = 1;
    if (size > 0) each->out_sent += size;
    if (each->out_sent == each->out_size) {
        each->out_sent = each->out_size = 0;
    } else if (each->out_sent > OUT_BYTES / 2) {
        memmove(each->out, each->out + each->out_sent, each->out_size - each->out_sent);
        each->out_size -= each->out_sent;
        each->out_sent = 0;
    }
}

static void write_answers(struct connection *each) {
    int has_more = 1;
    for (int round = 0; has_more && round < ROUNDS && !each->is_closed; round++) {
        has_more = put_answers(each);
        if (each->out_size) send_output(each);
        if (each->out_size) break;
    }
    int wants_output = has_more || each->out_size > 0;
    if (wants_output != each->wants_output && !each->is_closed) {
        struct epoll_event event = {.events = EPOLLIN | (wants_output ? EPOLLOUT : 0), .data.ptr = each};
        if (epoll_ctl(poller, EPOLL_CTL_MOD, each->fd, &event)) die("epoll");
        each->wants_output = wants_output;
    }
}

static struct stream *find_stream(struct connection *each, uint32_t id) {
    for (int number = each->stream_count - 1; number >= 0; number--)
        if (each->streams[number].id == id) return &each->streams[number];
    return NULL;
}

static void answer(struct stream *stream) {
    if (!stream || stream->is_answering) return;
    stream->is_answering = 1;
    completed++;
}

static void on_headers(struct connection *each, uint32_t id, int flags) {
    struct stream *stream = id > each->last_id ? NULL : find_stream(each, id);
    if (!stream) {
        if (each->stream_count == STREAM_SLOTS) {
            each->is_closed = 1;
            return;
        }
        stream = &each->streams[each->stream_count++];
        *stream = (struct stream){.id = each->last_id = id, .window = each->initial_window};
        opened++, open_streams++;
    }
    if (!(flags & END_STREAM)) return;
    if (flags & END_HEADERS) {
        answer(stream);
    } else {
        each->ending = id;
    }
}

static void on_settings(struct connection *each, const unsigned char *payload, size_t size) {
    for (; size >= 6; payload += 6, size -= 6) {
        int64_t value = (uint32_t)payload[2] << 24 | payload[3] << 16 | payload[4] << 8 | payload[5];
        if (payload[1] == 1 && value < 512) each->is_literal = 1;
        if (payload[1] != 4) continue;
        for (int number = 0; number < each->stream_count; number++)
            each->streams[number].window += value - each->initial_window;
        each->initial_window = value;
    }
    put_control(each, SETTINGS, ACK, 0, NULL, 0);
}

static void on_window_update(struct connection *each, uint32_t id, const unsigned char *payload) {
    uint32_t size = (payload[0] & 127u) << 24 | payload[1] << 16 | payload[2] << 8 | payload[3];
    struct stream *stream = id ? find_stream(each, id) : NULL;
    if (!id) each->window += size;
    if (stream) stream->window += size;
}

static void on_data(struct connection *each, uint32_t id, int flags, size_t size) {
    each->credit += size;
    body_bytes += size; /* nobody pads here */
    if (each->credit >= CREDIT_BYTES) {
        put_window_update(each, 0, each->credit);
        each->credit = 0;
    }
    if (flags & END_STREAM) answer(find_stream(each, id));
}

static void on_frame(struct connection *each, const unsigned char *frame, size_t size) {
    int type = frame[3], flags = frame[4];
    uint32_t id = (frame[5] & 127u) << 24 | frame[6] << 16 | frame[7] << 8 | frame[8];
    const unsigned char *payload = frame + HEAD_BYTES;
    struct stream *stream;
    if (type == DATA) on_data(each, id, flags, size);
    if (type == HEADERS) on_headers(each, id, flags);
    if (type == RST_STREAM && (stream = find_stream(each, id))) remove_stream(each, stream);
    if (type == SETTINGS && !(flags & ACK)) on_settings(each, payload, size);
    if (type == PING && !(flags & ACK)) put_control(each, PING, ACK, 0, payload, 8);
    if (type == WINDOW_UPDATE && size == 4) on_window_update(each, id, payload);
    if (type == CONTINUATION && flags & END_HEADERS && each->ending) {
        answer(find_stream(each, each->ending));
        each->ending = 0;
    }
}

/* Take whole frames; gives how many bytes they had. */
static size_t take_frames(struct connection *each, const unsigned char *bytes, size_t size) {
    size_t taken = 0;
    if (!each->has_preface) {
        if (size < sizeof PREFACE - 1) return 0;
        if (memcmp(bytes, PREFACE, sizeof PREFACE - 1)) {
            each->is_closed = 1;
            return size;
        }
        taken = sizeof PREFACE - 1;
        each->has_preface = 1;
    }
    while (size - taken >= HEAD_BYTES && !each->is_closed) {
        const unsigned char *frame = bytes + taken;
        size_t length = frame[0] << 16 | frame[1] << 8 | frame[2];
        if (length > FRAME_BYTES) each->is_closed = 1;
        if (size - taken < HEAD_BYTES + length) break;
        on_frame(each, frame, length);
        taken += HEAD_BYTES + length;
    }
    return taken;
}

static void read_frames(struct connection *each) {
    memcpy(input, each->left, each->left_size);
    ssize_t size = recv(each->fd, input + each->left_size, IN_BYTES, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        each->is_closed = 1;
        return;
    }
    size_t whole = each->left_size + size, taken = take_frames(each, input, whole);
    each->left_size = whole - taken;
    if (each->left_size > sizeof each->left) {
        each->is_closed = 1;
    } else {
        memcpy(each->left, input + taken, each->left_size);
    }
}

static void close_connection(struct connection *each) {
    open_streams -= each->stream_count;
    connection_count--;
    close(each->fd);
    free(each);
}

static void serve(struct connection *each, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_frames(each);
    if (!each->is_closed) write_answers(each);
    if (each->is_closed) close_connection(each);
}

static void tell_status(int fd) {
    char question[4096], body[256], text[512];
    if (recv(fd, question, sizeof question, 0) >= 0) {
        int size = snprintf(body, sizeof body,
                            "{\"opened\": %ld, \"completed\": %ld, \"body_bytes\": %ld, \"open_streams\": %ld, "
                            "\"connections\": %ld}\n",
                            opened, completed, body_bytes, open_streams, connection_count);
        size = snprintf(text, sizeof text, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body);
        if (send(fd, text, size, MSG_NOSIGNAL) < 0) perror("status");
    }
    close(fd);
}

static struct connection *add(int fd, int kind, int is_listener) {
    struct connection *each = calloc(1, sizeof *each);
    if (!each) die("memory");
    each->fd = fd, each->kind = kind, each->is_listener = is_listener;
    each->window = each->initial_window = 65535;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll");
    return each;
}

static void accept_one(const struct connection *listener) {
    static const unsigned char settings[12] = {0, 3, 0, 0, 0, STREAM_LIMIT, 0, 4, STREAM_WINDOW >> 24};
    int one = 1, fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | (listener->kind == STATUS ? 0 : SOCK_NONBLOCK));
    if (fd < 0) return;
    if (listener->kind == STATUS) {
        tell_status(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *each = add(fd, listener->kind, 0);
    connection_count++;
    put_control(each, SETTINGS, 0, 0, settings, sizeof settings);
    put_window_update(each, 0, 1 << 30);
    write_answers(each);
}

static void listen_at(const char *host, int port, int kind) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die("listen");
    add(fd, kind, 1);
}

static void build_answers(void) {
    static const struct field server = {54, "server", "bench"}, grpc = {31, "content-type", "application/grpc"};
    static const struct field text = {31, "content-type", "text/plain"}, status = {0, "grpc-status", "0"};
    unary_body[4] = sizeof unary_body - 5;
    message[3] = 1024 >> 8;
    answers[SMALL] = (struct answer){{text, {28, "content-length", "20"}, server}, status, 3, 0, small_body, 20, 20};
    answers[UNARY] = (struct answer){{grpc}, status, 1, 1, unary_body, sizeof unary_body, sizeof unary_body};
    answers[MANY] = (struct answer){{grpc}, status, 1, 1, message, MESSAGE_BYTES, (long)MESSAGES * MESSAGE_BYTES};
    answers[LARGE] =
        (struct answer){{text, {28, "content-length", "1048576"}, server}, status, 3, 0, block, FRAME_BYTES, LARGE_BYTES};
}

int main(int argc, char **argv) {
    if (argc < 1 + KINDS + 1) {
        fprintf(stderr, "usage: http2 STATUS_PORT SMALL_PORT UNARY_PORT MESSAGES_PORT LARGE_PORT ADDRESS...\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(EPOLL_CLOEXEC);
    build_answers();
    listen_at("127.0.0.1", atoi(argv[1 + STATUS]), STATUS);
    for (int number = 1 + KINDS; number < argc; number++)
        for (int kind = SMALL; kind < KINDS; kind++) listen_at(argv[number], atoi(argv[1 + kind]), kind);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, -1);
        for (int number = 0; number < count; number++) {
            struct connection *each = events[number].data.ptr;
            if (each->is_listener) {
                accept_one(each);
            } else {
                serve(each, events[number].events);
            }
        }
    }
}
