/* The load generator: thousands of cars over MQTT 5 and mutual TLS 1.3, in one thread.
 *
 * It shares two cores with the broker and the bridge that it measures, so what it costs is
 * what they lack. Hence C, and hence no packet is made here that can be made beforehand:
 * swarm.py writes a plan with every packet that a car will send, in the order of sending,
 * which is mapped into memory; this program walks through it once. What is left for each
 * frame is a look at the clock, one SSL_write to the socket and, for four frames together,
 * one read of their acknowledgements.
 *
 * The load is open: frames go out by a clock, whether or not earlier ones were
 * acknowledged, so that a slow bridge shows as waiting and not as less load. When each was
 * handed to its socket is noted, in seconds of CLOCK_MONOTONIC as Python's time.monotonic()
 * tells them.
 *
 * While frames are published epoll looks only at cars that wait for a signed receipt, since
 * how long that took is what is measured, and at sockets that took no more. What the others
 * are sent stays in the kernel until four acknowledgements are due: one call of the system
 * instead of eight. Before and afterwards all are looked at.
 *
 * swarm.py speaks lines to stdin, one at a time, and reads one answer to each from stdout:
 *
 *   connect TIMEOUT_S      connected SECONDS
 *   settle QUIET_S         settled
 *   run RATE DRAIN_S       ran SECONDS LATE_MS ACKNOWLEDGED UNRECEIPTED RECEIPTS
 *                          and before it, at most once a second, when nothing is owed:
 *                          idle (answered by "more", or by "end" if all is committed)
 *   write FILE             written (a double each: publish times, then receipts' ms)
 *
 * Any of them may be answered by "failed REASON" or "timeout REASON" instead; the reason
 * names the car, and the program has ended. A connection that breaks or is refused is never
 * made anew. It outlives nobody: the end of stdin ends it, every phase has a bound, and so
 * has the time in which it hears nothing. It connects to 127.0.0.1 and nowhere else.
 *
 * The plan: "FFSWARM1", u32 cars, u32 frames, u32 place of the last sequence in a receipt;
 * for each car six parts (u32 size, bytes): name, chain file and key file, which end with
 * NUL, CONNECT, SUBSCRIBE, PUBLISH of its HELLO; for each frame u64 ledger sequence (0: no
 * entry), u32 size, PUBLISH. Frame n is of car n % cars. All integers are big-endian.
 *
 * car.c is one car's connection, program.py builds both; needs OpenSSL 3 (Debian: gcc
 * libc6-dev libssl-dev).
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "car.h"

#define MAGIC "FFSWARM1"
#define HANDSHAKES 32      /* connections being made at a time: a broker's queue is short */
#define SENDS_PER_TURN 64  /* frames published before sockets are looked at again */
#define READ_EACH 4        /* unread acknowledgements of a car, at which they are read: one
                            * call for all; a broker of MQTT 5 allows 20 (mosquitto's
                            * default) */
#define EVENTS 256         /* sockets in one answer of epoll */
#define LINE_MOST 4096     /* bytes of a line of stdin: a path and a word */

#define TURN_MS 1          /* between two looks at the clock while publishing */
#define WAIT_MS 50         /* between two looks at the clock otherwise */
#define ASK_EACH_S 1.0     /* the bridge is busy: it is asked no more often */
#define SETTLE_MOST_S 300  /* the broker never fell silent; a fleet's HELLOs take seconds */
#define SLOW_MOST 4        /* publishing is given up after so many times as long as the
                            * clock wants, and ... */
#define SLOW_MORE_S 60     /* ... so many seconds: no measurement comes of that */
#define UNHEARD_MS 600000  /* without a word from stdin between two phases */

static struct {
    const uint8_t *at, *end, *frames;
} plan;

static uint32_t frame_count;
static double late_ms; /* by how much publishing was ever behind its clock */

static char heard[LINE_MOST];
static size_t heard_size;

/* -- words from stdin ------------------------------------------------------------- */

static void hear(void)
{
    ssize_t came = read(STDIN_FILENO, heard + heard_size, sizeof heard - heard_size);
    if(came < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if(came <= 0) _exit(0);
    heard_size += (size_t)came;
}

/* Take a line that has come; false if none has. */
static bool take_line(char line[LINE_MOST])
{
    char *end = memchr(heard, '\n', heard_size);
    if(end == NULL){
        if(heard_size == sizeof heard) fail(NULL, "a line without an end");
        return false;
    }
    size_t size = (size_t)(end - heard);
    memcpy(line, heard, size);
    line[size] = '\0';
    heard_size -= size + 1;
    memmove(heard, end + 1, heard_size);
    return true;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf("\n");
    fflush(stdout);
}

/* -- phases ----------------------------------------------------------------------- */

static void turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(swarm.epoll_fd, events, EVENTS, timeout_ms);
    if(count < 0 && errno != EINTR) fail(NULL, "epoll: %s", strerror(errno));
    for(int i = 0; i < count; i++){
        struct car *car = events[i].data.ptr;
        if(car == NULL) hear();
        else attend(car, events[i].events);
    }
}

static void connect_all(double timeout_s)
{
    const double begin = now_s();
    uint32_t begun = 0;
    while(swarm.up_count < swarm.car_count){
        while(begun < swarm.car_count && begun - swarm.up_count < HANDSHAKES)
            begin_connection(begun++);
        turn(WAIT_MS);
        if(now_s() - begin > timeout_s)
            give_up("timeout", NULL, "%u cars not connected",
                    swarm.car_count - swarm.up_count);
    }
    say("connected %.6f", now_s() - begin);
}

/* Answer what comes until nothing came for a while: receipts of the HELLOs. */
static void settle(double quiet_s)
{
    const double begin = now_s();
    double silent_s = begin; /* since when */
    while(now_s() - silent_s < quiet_s){
        const uint64_t reads = swarm.reads;
        turn(WAIT_MS);
        if(swarm.reads != reads) silent_s = now_s();
        if(now_s() - begin > SETTLE_MOST_S)
            give_up("timeout", NULL, "the broker was not silent for %.1f s", quiet_s);
    }
    say("settled");
}

static void watch_all(bool is_watched)
{
    for(uint32_t i = 0; i < swarm.car_count; i++){
        swarm.cars[i].is_watched = is_watched;
        watch(&swarm.cars[i]);
    }
}

/* Publish every frame; return the seconds it took. */
static double publish_all(double rate)
{
    const uint8_t *at = plan.frames;
    const double begin = now_s();
    const double bound_s = SLOW_MOST * (frame_count / rate) + SLOW_MORE_S;
    uint32_t sent = 0, place = 0;
    while(sent < frame_count){
        const double passed_s = now_s() - begin;
        const double wanted = passed_s * rate;
        const uint32_t due = wanted < frame_count ? (uint32_t)wanted : frame_count;
        const double behind_ms = (due - sent) / rate * 1e3;
        const uint32_t until = due - sent > SENDS_PER_TURN ? sent + SENDS_PER_TURN : due;
        if(behind_ms > late_ms) late_ms = behind_ms;
        if(passed_s > bound_s)
            give_up("timeout", NULL, "%u frames not published", frame_count - sent);
        for(; sent < until; sent++){
            struct car *car = &swarm.cars[place];
            const uint64_t sequence = number_at(at, 8);
            const size_t size = number_at(at + 8, 4);
            if(++place == swarm.car_count) place = 0;
            if(car->unacknowledged >= READ_EACH) read_car(car);
            if(sequence != 0) expect_receipt(car, sequence, sent);
            swarm.published_s[sent] = now_s();
            publish(car, at + 12, size);
            at += 12 + size;
        }
        turn(due > until ? 0 : TURN_MS);
    }
    return now_s() - begin;
}

static void drain(double drain_s)
{
    const double end = now_s() + drain_s;
    double asked_s = 0.0;
    bool is_asked = false;
    while(now_s() < end){
        char line[LINE_MOST];
        turn(WAIT_MS);
        if(is_asked && take_line(line)){
            is_asked = false;
            if(strcmp(line, "end") == 0) return;
        }
        if(swarm.unacknowledged == 0 && swarm.unreceipted == 0 && !is_asked &&
           now_s() - asked_s >= ASK_EACH_S){
            say("idle");
            is_asked = true;
            asked_s = now_s();
        }
    }
    /* Its answer is on its way, and is no word of the next phase. */
    while(is_asked){
        char line[LINE_MOST];
        if(take_line(line)) is_asked = false;
        else hear();
    }
}

static void run(double rate, double drain_s)
{
    double took_s;
    watch_all(false);
    swarm.is_publishing = true;
    took_s = publish_all(rate);
    swarm.is_publishing = false;
    watch_all(true);
    drain(drain_s);
    say("ran %.6f %.3f %llu %llu %u", took_s, late_ms,
        (unsigned long long)swarm.acknowledged, (unsigned long long)swarm.unreceipted,
        swarm.receipt_count);
}

static void write_results(const char *path)
{
    FILE *file = fopen(path, "wb");
    const size_t size = sizeof(double), receipts = swarm.receipt_count;
    if(file == NULL ||
       fwrite(swarm.published_s, size, frame_count, file) != frame_count ||
       fwrite(swarm.receipt_ms, size, receipts, file) != receipts ||
       fclose(file) != 0)
        fail(NULL, "%s: %s", path, strerror(errno));
    say("written");
}

/* -- beginning -------------------------------------------------------------------- */

/* Room for so many, zeroed, whose pages are there: no fault of a page while publishing. */
static void *make_array(size_t count, size_t size)
{
    void *room = make_room(NULL, (count + 1) * size);
    memset(room, 0, (count + 1) * size);
    return room;
}

static const uint8_t *take_bytes(size_t size)
{
    const uint8_t *at = plan.at;
    if((size_t)(plan.end - at) < size) fail(NULL, "the plan is cut off");
    plan.at += size;
    return at;
}

static struct part take_part(void)
{
    struct part part = {NULL, number_at(take_bytes(4), 4)};
    part.at = take_bytes(part.size);
    return part;
}

static void open_plan(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if(fd < 0 || fstat(fd, &status) != 0) fail(NULL, "%s: %s", path, strerror(errno));
    const int how = MAP_PRIVATE | MAP_POPULATE; /* no fault of a page while publishing */
    plan.at = mmap(NULL, (size_t)status.st_size, PROT_READ, how, fd, 0);
    if(plan.at == MAP_FAILED) fail(NULL, "%s: %s", path, strerror(errno));
    plan.end = plan.at + status.st_size;
    close(fd);

    if(memcmp(take_bytes(8), MAGIC, 8) != 0) fail(NULL, "%s is no plan", path);
    swarm.car_count = (uint32_t)number_at(take_bytes(4), 4);
    frame_count = (uint32_t)number_at(take_bytes(4), 4);
    swarm.upto_at = number_at(take_bytes(4), 4);
    if(swarm.car_count == 0) fail(NULL, "%s has no car", path);
    swarm.cars = make_array(swarm.car_count, sizeof *swarm.cars);
    for(uint32_t i = 0; i < swarm.car_count; i++){
        struct car *car = &swarm.cars[i];
        car->first = NONE;
        car->name = take_part();
        car->chain = take_part();
        car->key = take_part();
        car->connect = take_part();
        car->subscribe = take_part();
        car->hello = take_part();
    }
    plan.frames = plan.at;
    uint32_t ledger_entries = 0;
    for(uint32_t i = 0; i < frame_count; i++){
        if(number_at(take_bytes(8), 8) != 0) ledger_entries++;
        take_part();
    }
    swarm.entries = make_array(ledger_entries, sizeof *swarm.entries);
    swarm.receipt_ms = make_array(ledger_entries, sizeof *swarm.receipt_ms);
    swarm.published_s = make_array(frame_count, sizeof *swarm.published_s);
}

static void open_context(const char *trust_anchors)
{
    SSL_CTX *context = swarm.context = SSL_CTX_new(TLS_client_method());
    if(context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
       SSL_CTX_load_verify_file(context, trust_anchors) != 1)
        fail_tls(NULL, trust_anchors);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    /* Buffers of 14,000 idle connections would be 460 MB, and never in a cache; one that
     * is freed at once serves them all. A backlog moves when it grows. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    /* Such a buffer, freed at the end of the heap, must not be given back to the system. */
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

static void serve(void)
{
    for(;;){
        char line[LINE_MOST];
        double first = 0, second = 0;
        while(!take_line(line)){
            struct pollfd stdin_poll = {.fd = STDIN_FILENO, .events = POLLIN};
            int count = poll(&stdin_poll, 1, UNHEARD_MS);
            if(count == 0) give_up("timeout", NULL, "nothing to do for %d ms", UNHEARD_MS);
            if(count > 0) hear();
        }
        if(sscanf(line, "connect %lf", &first) == 1) connect_all(first);
        else if(sscanf(line, "settle %lf", &first) == 1) settle(first);
        else if(sscanf(line, "run %lf %lf", &first, &second) == 2) run(first, second);
        else if(strncmp(line, "write ", 6) == 0) write_results(line + 6);
        else fail(NULL, "no such word: %s", line);
    }
}

int main(int count, char **words)
{
    if(count != 4){
        fprintf(stderr, "usage: %s PLAN PORT TRUST-ANCHORS\n", words[0]);
        return 2;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    signal(SIGPIPE, SIG_IGN); /* a broken connection is an error with a name */
    open_plan(words[1]);
    swarm.broker.sin_family = AF_INET;
    swarm.broker.sin_port = htons((uint16_t)atoi(words[2]));
    inet_pton(AF_INET, BROKER, &swarm.broker.sin_addr);
    open_context(words[3]);
    swarm.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if(swarm.epoll_fd < 0 ||
       epoll_ctl(swarm.epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        fail(NULL, "epoll: %s", strerror(errno));
    serve();
}
