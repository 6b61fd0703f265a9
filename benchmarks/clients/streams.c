/* TCP and UDP loads, and the server behind them; one thread each. Gives one line of JSON.
 *
 *   streams serve ADDRESS PORT                            echoes datagrams; answers TCP as below, until it is ended
 *   streams stream PORT SECONDS CONNECTIONS               reads TCP as fast as it comes
 *   streams connect PORT SECONDS CONNECTIONS              connect, 1 KiB each way, close, again and again
 *   streams echo PORT SECONDS CLIENTS OUTSTANDING BYTES   so many datagrams under way for each UDP client
 *   streams pace PORT SECONDS CLIENTS RATE BYTES          so many datagrams a second, evenly, over all UDP clients
 *   streams hold PORT SECONDS CLIENTS (tcp|udp)           has each client answered once, tells so, and holds still
 *
 * A TCP request is QUESTION_BYTES, of which the first eight are how many bytes to answer with. Loads go to 127.0.0.1.
 * At a pace, a datagram's latency counts from when it was due, not from when it was sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUESTION_BYTES 1024
#define BLOCK_BYTES (1 << 18)
#define BATCH 64
#define DATAGRAM_LIMIT 65536
#define LOST_AFTER_NS 300000000LL /* a client that hears nothing for so long takes what is under way for lost */
#define GRACE_NS 500000000LL
#define FAILED_LIMIT 1000
#define SOURCES 8 /* addresses that connections come from: one has too few ports for those that were just closed */

typedef long long ns_t;

struct peer {
    int fd;
    long left;     /* bytes to come of a question, or to go of an answer */
    int answering;
    char question[QUESTION_BYTES];
    ns_t heard_at;
};

static char block[BLOCK_BYTES];
static int poller;

static ns_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in build_address(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die(host);
    return address;
}

static void watch(int fd, unsigned events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* --- datagrams, many by one call: what the load's core spends is not the proxy's */

static char datagrams[BATCH][DATAGRAM_LIMIT];
static struct mmsghdr messages[BATCH];

/* Take what there is, with the addresses where the socket has many peers; gives how many datagrams. */
static int receive_batch(int fd, int has_addresses) {
    static struct sockaddr_in addresses[BATCH];
    static struct iovec vectors[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){datagrams[i], DATAGRAM_LIMIT};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
        if (!has_addresses) continue;
        messages[i].msg_hdr.msg_name = &addresses[i];
        messages[i].msg_hdr.msg_namelen = sizeof addresses[i];
    }
    int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) vectors[i].iov_len = messages[i].msg_len;
    return count;
}

/* Send back what was received. */
static void send_batch(int fd, int count) {
    for (int sent = 0; sent < count;) {
        int more = sendmmsg(fd, messages + sent, count - sent, 0);
        if (more < 0) break;
        sent += more;
    }
}

/* --- the server */

static int udp_fd, tcp_fd;

static void echo_datagrams(void) {
    send_batch(udp_fd, receive_batch(udp_fd, 1));
}

static void end_peer(struct peer *peer) {
    close(peer->fd);
    free(peer);
}

static void serve_peer(struct peer *peer) {
    while (!peer->answering) {
        ssize_t got = read(peer->fd, peer->question + QUESTION_BYTES - peer->left, peer->left);
        if (got <= 0) {
            if (got < 0 && errno == EAGAIN) return;
            end_peer(peer);
            return;
        }
        peer->left -= got;
        if (!peer->left) {
            memcpy(&peer->left, peer->question, sizeof peer->left);
            peer->answering = 1;
        }
    }
    while (peer->left) {
        ssize_t sent = send(peer->fd, block, peer->left < BLOCK_BYTES ? peer->left : BLOCK_BYTES, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) return;
            end_peer(peer);
            return;
        }
        peer->left -= sent;
    }
    peer->answering = 0;
    peer->left = QUESTION_BYTES;
    serve_peer(peer);
}

static void serve(const char *host, int port) {
    struct sockaddr_in address = build_address(host, port);
    int on = 1, room = 4 << 20;
    udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    setsockopt(udp_fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(tcp_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(udp_fd, (struct sockaddr *)&address, sizeof address)) die("bind UDP");
    if (bind(tcp_fd, (struct sockaddr *)&address, sizeof address) || listen(tcp_fd, 4096)) die("bind TCP");
    watch(udp_fd, EPOLLIN, &udp_fd);
    watch(tcp_fd, EPOLLIN, &tcp_fd);
    struct epoll_event events[BATCH];
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &udp_fd) {
                echo_datagrams();
            } else if (events[i].data.ptr == &tcp_fd) {
                int fd;
                while ((fd = accept4(tcp_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct peer *peer = calloc(1, sizeof *peer);
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    peer->fd = fd;
                    peer->left = QUESTION_BYTES;
                    watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, peer);
                }
            } else {
                serve_peer(events[i].data.ptr);
            }
        }
    }
}

/* --- TCP loads */

static long failed;

static void fail(const char *what) {
    if (++failed > FAILED_LIMIT) die(what);
}

static void ask(struct peer *peer, int port, long answer) {
    static unsigned turn;
    struct sockaddr_in address = build_address("127.0.0.1", port), source = address;
    int on = 1;
    source.sin_addr.s_addr = htonl((127 << 24) + (8 << 8) + 1 + turn++ % SOURCES);
    source.sin_port = 0;
    memset(peer->question, 'x', sizeof peer->question);
    memcpy(peer->question, &answer, sizeof answer);
    for (;;) {
        peer->fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(peer->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(peer->fd, (struct sockaddr *)&source, sizeof source)) die("bind");
        if (!connect(peer->fd, (struct sockaddr *)&address, sizeof address)
            && send(peer->fd, peer->question, QUESTION_BYTES, MSG_NOSIGNAL) == QUESTION_BYTES)
            break;
        fail("connect");
        close(peer->fd);
    }
    peer->left = answer;
    watch(peer->fd, EPOLLIN, peer);
}

static void load_tcp(int port, double seconds, int connections, int is_stream) {
    struct peer *peers = calloc(connections, sizeof *peers);
    long answer = is_stream ? 1L << 60 : QUESTION_BYTES, bytes = 0, done = 0;
    for (int i = 0; i < connections; i++) ask(&peers[i], port, answer);
    struct epoll_event events[BATCH];
    ns_t begin = now_ns(), end = begin + (ns_t)(seconds * 1e9), now = begin;
    while (now < end) {
        int count = epoll_wait(poller, events, BATCH, 100);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            ssize_t got = recv(peer->fd, block, is_stream ? 1 << 24 : BLOCK_BYTES, MSG_DONTWAIT | (is_stream ? MSG_TRUNC : 0));
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0) {
                bytes += got;
                peer->left -= got;
            }
            if (got <= 0 || !peer->left) {
                if (peer->left) fail("recv");
                else done++;
                close(peer->fd);
                ask(peer, port, answer);
            }
        }
        now = now_ns();
    }
    printf("{\"seconds\": %.6f, \"bytes\": %ld, \"connections\": %ld, \"failed\": %ld}\n", (now - begin) / 1e9, bytes, done,
           failed);
}

/* --- UDP loads */

static ns_t *latencies;
static long answered, latency_room;

static int compare(const void *one, const void *other) {
    ns_t difference = *(const ns_t *)one - *(const ns_t *)other;
    return (difference > 0) - (difference < 0);
}

static long percentile_us(double share) {
    long count = answered < latency_room ? answered : latency_room;
    return count ? latencies[(long)(share * (count - 1))] / 1000 : 0;
}

static void send_one(struct peer *peer, ns_t stamp, int size) {
    memcpy(block, &stamp, sizeof stamp);
    send(peer->fd, block, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Wait for answers, but no longer than until the next datagram is due. */
static void sleep_until(ns_t due) {
    ns_t left = due - now_ns();
    if (left <= 0) return;
    struct timespec wait = {left / 1000000000, left % 1000000000};
    struct pollfd polled = {poller, POLLIN, 0};
    ppoll(&polled, 1, &wait, NULL);
}

static void load_udp(int port, double seconds, int clients, int outstanding, double rate, int size) {
    struct sockaddr_in address = build_address("127.0.0.1", port);
    struct peer *peers = calloc(clients, sizeof *peers);
    int room = 4 << 20;
    long sent = 0, lost = 0;
    latency_room = 1 << 22;
    latencies = calloc(latency_room, sizeof *latencies);
    ns_t begin = now_ns(), end = begin + (ns_t)(seconds * 1e9), now = begin;
    for (int i = 0; i < clients; i++) {
        peers[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        setsockopt(peers[i].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        if (connect(peers[i].fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        watch(peers[i].fd, EPOLLIN, &peers[i]);
        peers[i].heard_at = now;
        for (int k = 0; k < outstanding; k++, sent++) send_one(&peers[i], now_ns(), size);
    }
    struct epoll_event events[BATCH];
    while (now < end + (rate > 0 ? GRACE_NS : 0)) {
        if (rate > 0) sleep_until(now < end ? begin + (ns_t)((sent + 1) / rate * 1e9) : end + GRACE_NS);
        int count = epoll_wait(poller, events, BATCH, rate > 0 ? 0 : 50);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            int got = receive_batch(peer->fd, 0);
            ns_t stamp, at = now_ns();
            for (int k = 0; k < got; k++) {
                memcpy(&stamp, datagrams[k], sizeof stamp);
                latencies[answered++ % latency_room] = at - stamp;
                peer->heard_at = at;
                memcpy(datagrams[k], &at, sizeof at);
            }
            if (outstanding && now < end && got > 0) {
                send_batch(peer->fd, got);
                sent += got;
            }
        }
        now = now_ns();
        if (rate > 0 && now < end) {
            long due = (long)((now - begin) / 1e9 * rate);
            for (int k = 0; sent < due && k < BATCH; k++, sent++)
                send_one(&peers[sent % clients], begin + (ns_t)((sent + 1) / rate * 1e9), size);
        }
        for (int i = 0; outstanding && i < clients; i++) {
            if (now - peers[i].heard_at < LOST_AFTER_NS) continue;
            peers[i].heard_at = now;
            lost += outstanding;
            for (int k = 0; k < outstanding; k++, sent++) send_one(&peers[i], now, size);
        }
    }
    if (rate > 0) lost = sent - answered;
    qsort(latencies, answered < latency_room ? answered : latency_room, sizeof *latencies, compare);
    printf("{\"seconds\": %.6f, \"sent\": %ld, \"answered\": %ld, \"lost\": %ld, \"p50_us\": %ld, \"p99_us\": %ld}\n",
           rate > 0 ? seconds : (now - begin) / 1e9, sent, answered, lost, percentile_us(0.5), percentile_us(0.99));
}

static void hold(int port, double seconds, int clients, int is_udp) {
    struct sockaddr_in address = build_address("127.0.0.1", port);
    long answer = 1;
    int heard = 0, *fds = calloc(clients, sizeof *fds);
    memcpy(block, &answer, sizeof answer);
    for (int i = 0; i < clients; i++) {
        fds[i] = socket(AF_INET, is_udp ? SOCK_DGRAM : SOCK_STREAM, 0);
        if (is_udp) { /* none of the ports that a proxy may be given by the system: those are too few for two */
            struct sockaddr_in local = build_address("127.0.9.1", 10000 + i % 10000);
            local.sin_addr.s_addr = htonl(ntohl(local.sin_addr.s_addr) + i / 10000);
            if (bind(fds[i], (struct sockaddr *)&local, sizeof local)) die("bind");
        }
        if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&address, sizeof address)) die("connect");
        struct timeval wait = {1, 0};
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        send(fds[i], block, is_udp ? 1 : QUESTION_BYTES, MSG_NOSIGNAL);
        heard += recv(fds[i], block + QUESTION_BYTES, 1, 0) == 1;
    }
    printf("{\"held\": %d, \"answered\": %d}\n", clients, heard);
    fflush(stdout);
    usleep((useconds_t)(seconds * 1e6));
}

int main(int count, char **words) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    poller = epoll_create1(0);
    memset(block, 'b', sizeof block);
    if (count == 4 && !strcmp(words[1], "serve")) serve(words[2], atoi(words[3]));
    else if (count == 5 && !strcmp(words[1], "stream")) load_tcp(atoi(words[2]), atof(words[3]), atoi(words[4]), 1);
    else if (count == 5 && !strcmp(words[1], "connect")) load_tcp(atoi(words[2]), atof(words[3]), atoi(words[4]), 0);
    else if (count == 7 && !strcmp(words[1], "echo"))
        load_udp(atoi(words[2]), atof(words[3]), atoi(words[4]), atoi(words[5]), 0, atoi(words[6]));
    else if (count == 7 && !strcmp(words[1], "pace"))
        load_udp(atoi(words[2]), atof(words[3]), atoi(words[4]), 0, atof(words[5]), atoi(words[6]));
    else if (count == 6 && !strcmp(words[1], "hold"))
        hold(atoi(words[2]), atof(words[3]), atoi(words[4]), !strcmp(words[5], "udp"));
    else return 2;
    return 0;
}
