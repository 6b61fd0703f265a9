/* A client that holds a rate: requests fall due evenly, whether or not those before them have been answered.
 *
 * Arguments: port host target rate seconds connections. Gives one line of JSON. A request's latency counts from when it
 * was due, not from when a connection was free to send it, so a proxy that stalls is charged for all that should have
 * been sent meanwhile. One thread, one request at a time on each of the connections, all on 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GRACE_NS 1000000000LL /* how long answers are waited for once the last request was due */
#define IN_TIME_NS 20000000LL /* how long after that an answer still shows that the rate was held */
#define HEAD_LIMIT 8192
#define FAILED_LIMIT 1000

typedef long long ns_t;

struct connection {
    int fd;
    ns_t due;         /* 0 while it is idle */
    long missing;     /* bytes of the body to come; -1 while the head is read */
    size_t head_size;
    char head[HEAD_LIMIT + 1];
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static char request[2048];
static size_t request_size;
static int poller;
static struct connection *connections, **idle;
static size_t idle_count;
static ns_t *latencies, *late;
static size_t answered, sent, in_time, failed;

static ns_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *found = calloc(count, size);
    if (!found) die("memory");
    return found;
}

/* Take what came in: 1 when the answer is whole, 0 when more is to come, -1 when it is not the one hoped for. */
static int receive(struct connection *each) {
    static char buffer[262144];
    int is_head = each->missing < 0;
    char *into = is_head ? each->head + each->head_size : buffer;
    ssize_t size = recv(each->fd, into, is_head ? HEAD_LIMIT - each->head_size : sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN) return 0;
    if (size <= 0) return -1;
    if (is_head) {
        each->head_size += size;
        each->head[each->head_size] = 0;
        char *end = strstr(each->head, "\r\n\r\n"), *length = strcasestr(each->head, "\r\ncontent-length:");
        if (!end) return each->head_size < HEAD_LIMIT ? 0 : -1;
        if (strncmp(each->head + 8, " 200", 4) || !length || length > end) return -1;
        each->missing = atol(length + 17);
        size = each->head + each->head_size - (end + 4);
    }
    each->missing -= size;
    if (each->missing > 0) return 0;
    if (each->missing < 0) return -1;
    each->missing = -1;
    each->head_size = 0;
    return 1;
}

/* Open a connection and send one request that is not counted. */
static void open_connection(struct connection *each) {
    int one = 1, whole = 0;
    each->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (each->fd < 0 || connect(each->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    each->due = 0;
    each->missing = -1;
    each->head_size = 0;
    if (send(each->fd, request, request_size, MSG_NOSIGNAL) < 0) die("send");
    while (!whole) whole = receive(each);
    if (whole < 0) {
        fprintf(stderr, "not the answer hoped for: %.*s\n", (int)each->head_size, each->head);
        exit(1);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, each->fd, &event)) die("epoll");
    idle[idle_count++] = each;
}

static void fail(struct connection *each) {
    failed++;
    close(each->fd);
    each->fd = -1;
    each->due = 0;
    if (failed < FAILED_LIMIT) open_connection(each);
}

static void send_due(ns_t due) {
    struct connection *each = idle[--idle_count];
    each->due = due;
    late[sent++] = now_ns() - due;
    if (send(each->fd, request, request_size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)request_size) fail(each);
}

static void wait_until(ns_t wake, ns_t end) {
    struct epoll_event events[64];
    ns_t left = wake - now_ns();
    struct timespec pause = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
    int count = epoll_pwait2(poller, events, 64, &pause, NULL);
    for (int index = 0; index < count; index++) {
        struct connection *each = events[index].data.ptr;
        int whole = receive(each);
        if (whole < 0 || (whole && !each->due)) {
            fail(each);
        } else if (whole) {
            ns_t now = now_ns();
            latencies[answered++] = now - each->due;
            in_time += now < end + IN_TIME_NS;
            each->due = 0;
            idle[idle_count++] = each;
        }
    }
}

static int compare(const void *one, const void *other) {
    ns_t left = *(const ns_t *)one, right = *(const ns_t *)other;
    return (left > right) - (left < right);
}

static long percentile_us(ns_t *values, size_t count, double share) {
    size_t place = count * share;
    return count ? values[place < count ? place : count - 1] / 1000 : 0;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: paced PORT HOST TARGET RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    size_t count = rate * seconds, number = 0, size = atoi(argv[6]);
    ns_t interval = 1e9 / rate;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    address.sin_port = htons(atoi(argv[1]));
    request_size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
                            "X-Request-Id: 9e3779b1-00000001\r\n\r\n",
                            argv[3], argv[2]);
    connections = allocate(size, sizeof *connections);
    idle = allocate(size + FAILED_LIMIT, sizeof *idle);
    latencies = allocate(count + size + 1, sizeof *latencies);
    late = allocate(count + 1, sizeof *late);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (size_t index = 0; index < size; index++) open_connection(&connections[index]);

    ns_t start = now_ns(), end = start + (ns_t)(seconds * 1e9), last = end + GRACE_NS, now;
    while ((now = now_ns()) < last && failed < FAILED_LIMIT) {
        while (number < count && idle_count && start + (ns_t)number * interval <= now) {
            send_due(start + (ns_t)number * interval);
            number++;
        }
        if (number == count && idle_count == size) break;
        wait_until(idle_count && number < count ? start + (ns_t)number * interval : last, end);
    }
    now = now_ns();
    size_t requests = answered, unanswered = count - number;
    for (size_t index = 0; index < size; index++) {
        if (connections[index].due) { /* at least that long */
            latencies[answered++] = now - connections[index].due;
            unanswered++;
        }
    }
    for (; number < count; number++) latencies[answered++] = now - (start + (ns_t)number * interval);
    qsort(latencies, answered, sizeof *latencies, compare);
    qsort(late, sent, sizeof *late, compare);
    printf("{\"requests\": %zu, \"in_time\": %zu, \"failed\": %zu, \"unanswered\": %zu, \"warm_up\": %zu, "
           "\"duration_us\": %.0f, \"p50_us\": %ld, \"p90_us\": %ld, \"p99_us\": %ld, \"p999_us\": %ld, "
           "\"late_p99_us\": %ld}\n",
           requests, in_time, failed, unanswered, size + failed, seconds * 1e6,
           percentile_us(latencies, answered, 0.5), percentile_us(latencies, answered, 0.9),
           percentile_us(latencies, answered, 0.99), percentile_us(latencies, answered, 0.999),
           percentile_us(late, sent, 0.99));
    return 0;
}
