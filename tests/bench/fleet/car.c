/* One car's connection: TLS, and what MQTT 5 needs of a client that publishes.
 *
 * Nothing is swallowed: whatever the broker says that a car did not expect, and whatever
 * ends a connection, ends the program with the car's name (give_up).
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "car.h"

#define PER_ADDRESS 12000  /* cars at one loopback address: ephemeral ports are 28,000 */
#define RECORD_MOST 16384  /* bytes in a TLS record, RFC 8446, 5.1 */
#define PACKET_MOST 8192   /* bytes of a packet: the broker sends frames, 4,096 at most */

struct swarm swarm;

/* -- ending ----------------------------------------------------------------------- */

void give_up(const char *word, const struct car *car, const char *format, ...)
{
    va_list values;
    printf("%s ", word);
    if(car != NULL) printf("car %.*s: ", (int)car->name.size, (const char *)car->name.at);
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

void fail_tls(const struct car *car, const char *doing)
{
    int why = errno;
    unsigned long error = ERR_get_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    if(reason == NULL) reason = why != 0 ? strerror(why) : "the broker closed";
    fail(car, "%s: %s", doing, reason);
}

/* -- small things ----------------------------------------------------------------- */

double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

uint64_t number_at(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for(int i = 0; i < bytes; i++) value = value << 8 | at[i];
    return value;
}

void *make_room(void *old, size_t size)
{
    void *room = realloc(old, size);
    if(room == NULL) fail(NULL, "no memory for %zu bytes", size);
    return room;
}

/* -- sockets ---------------------------------------------------------------------- */

void watch(struct car *car)
{
    uint32_t wanted = (car->is_watched ? EPOLLIN : 0u) | (car->is_stuck ? EPOLLOUT : 0u);
    struct epoll_event event = {.events = wanted, .data.ptr = car};
    int how = EPOLL_CTL_MOD;
    if(wanted == car->interest) return;
    if(wanted == 0) how = EPOLL_CTL_DEL;
    else if(car->interest == 0) how = EPOLL_CTL_ADD;
    if(epoll_ctl(swarm.epoll_fd, how, car->fd, &event) != 0)
        fail(car, "epoll: %s", strerror(errno));
    car->interest = wanted;
}

/* Whether the socket took the packet. Partial writes are off, so all of it or, for the
 * caller, nothing: then the same packet has to be written again before any other. */
static bool is_taken(struct car *car, const uint8_t *packet, size_t size)
{
    errno = 0;
    int took = SSL_write(car->ssl, packet, (int)size);
    if(took > 0) return true;
    if(SSL_get_error(car->ssl, took) == SSL_ERROR_WANT_WRITE) return false;
    /* A broker that hung up may have said why, and that is still to be read. */
    uint8_t unread[RECORD_MOST];
    int why = errno;
    if(ERR_peek_error() == 0) (void)SSL_read(car->ssl, unread, sizeof unread);
    errno = why;
    fail_tls(car, "writing");
}

/* Send now, or when the socket takes it. */
static void send_packet(struct car *car, const uint8_t *packet, size_t size)
{
    if(car->backlog_size == 0 && is_taken(car, packet, size)) return;
    uint32_t length = (uint32_t)size;
    size_t needed = car->backlog_size + sizeof length + size;
    if(needed > car->backlog_room){
        car->backlog_room = 2 * needed;
        car->backlog = make_room(car->backlog, car->backlog_room);
    }
    memcpy(car->backlog + car->backlog_size, &length, sizeof length);
    memcpy(car->backlog + car->backlog_size + sizeof length, packet, size);
    car->backlog_size = needed;
    car->is_stuck = true;
    watch(car);
}

static void send_backlog(struct car *car)
{
    size_t at = 0;
    while(at < car->backlog_size){
        uint32_t length;
        memcpy(&length, car->backlog + at, sizeof length);
        if(!is_taken(car, car->backlog + at + sizeof length, length)) break;
        at += sizeof length + length;
    }
    car->backlog_size -= at;
    memmove(car->backlog, car->backlog + at, car->backlog_size);
    car->is_stuck = car->backlog_size > 0;
    watch(car);
}

void publish(struct car *car, const uint8_t *packet, size_t size)
{
    car->unacknowledged++;
    swarm.unacknowledged++;
    send_packet(car, packet, size);
}

/* -- what the broker says --------------------------------------------------------- */

void expect_receipt(struct car *car, uint64_t sequence, uint32_t number)
{
    uint32_t own = swarm.entry_count++;
    swarm.entries[own] = (struct entry){sequence, number, NONE};
    if(car->first == NONE) car->first = own;
    else swarm.entries[car->last].next = own;
    car->last = own;
    swarm.unreceipted++;
    car->is_watched = true;
    watch(car);
}

static void take_receipt(struct car *car, uint64_t upto)
{
    const double now = now_s();
    while(car->first != NONE && swarm.entries[car->first].sequence <= upto){
        const struct entry *entry = &swarm.entries[car->first];
        const double took_s = now - swarm.published_s[entry->number];
        swarm.receipt_ms[swarm.receipt_count++] = took_s * 1e3;
        car->first = entry->next;
        swarm.unreceipted--;
    }
    if(car->first == NONE && swarm.is_publishing){
        car->is_watched = false;
        watch(car);
    }
}

/* Read a variable byte integer; return the bytes it has, 0 if there are not enough. */
static size_t take_length(const uint8_t *at, size_t size, size_t *length)
{
    *length = 0;
    for(size_t i = 0; i < size && i < 4; i++){
        *length |= (size_t)(at[i] & 127) << (7 * i);
        if(at[i] < 128) return i + 1;
    }
    return 0;
}

static void take_publish(struct car *car, int flags, const uint8_t *body, size_t size)
{
    static const char RECEIPT[] = "/receipt";
    const size_t suffix = sizeof RECEIPT - 1;
    const int quality = flags >> 1 & 3;
    const size_t id_size = quality > 0 ? 2 : 0;
    if(size < 2) fail(car, "a PUBLISH without a topic");
    const size_t topic_size = number_at(body, 2);
    size_t at = 2 + topic_size + id_size, properties = 0, length = 0;
    if(at < size) length = take_length(body + at, size - at, &properties);
    at += length + properties;
    if(length == 0 || at > size || quality > 1) fail(car, "a PUBLISH that is malformed");
    if(quality == 1){
        const uint8_t *id = body + 2 + topic_size;
        const uint8_t answer[] = {0x40, 2, id[0], id[1]};
        send_packet(car, answer, sizeof answer);
    }
    if(topic_size < suffix || memcmp(body + 2 + topic_size - suffix, RECEIPT, suffix) != 0)
        return;
    if(size - at < swarm.upto_at + 8) fail(car, "a receipt of %zu bytes", size - at);
    take_receipt(car, number_at(body + at + swarm.upto_at, 8));
}

static void take_packet(struct car *car, int first, const uint8_t *body, size_t size)
{
    switch(first >> 4){
    case 4: /* PUBACK */
        if(size < 2 || car->unacknowledged == 0) fail(car, "a PUBACK of nothing");
        if(size > 2 && body[2] >= 0x80) fail(car, "PUBACK %#x", body[2]);
        car->unacknowledged--;
        swarm.unacknowledged--;
        swarm.acknowledged++;
        return;
    case 3: /* PUBLISH */
        take_publish(car, first & 15, body, size);
        return;
    case 2: /* CONNACK */
        if(size < 2 || car->stage != GREETING) break;
        if(body[1] != 0) fail(car, "CONNACK %#x", body[1]);
        car->stage = SUBSCRIBING;
        send_packet(car, car->subscribe.at, car->subscribe.size);
        return;
    case 9: /* SUBACK */
        if(size < 4 || car->stage != SUBSCRIBING) break;
        if(body[size - 1] >= 0x80) fail(car, "SUBACK %#x", body[size - 1]);
        car->stage = UP;
        swarm.up_count++;
        publish(car, car->hello.at, car->hello.size);
        return;
    case 14: /* DISCONNECT */
        fail(car, "DISCONNECT %#x", size > 0 ? body[0] : 0);
    default:
        break;
    }
    fail(car, "a packet that was not expected, %#x, of %zu bytes", first, size);
}

/* Take the packets that are whole; return how many bytes they were. */
static size_t take_packets(struct car *car, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while(size - at >= 2){
        size_t body, length = take_length(data + at + 1, size - at - 1, &body);
        if((length == 0 && size - at > 4) || (length > 0 && body > PACKET_MOST - 5))
            fail(car, "a packet of more than %d bytes", PACKET_MOST);
        if(length == 0 || size - at < 1 + length + body) break;
        take_packet(car, data[at], data + at + 1 + length, body);
        at += 1 + length + body;
    }
    return at;
}

/* OpenSSL reads ahead, so one call of the system brings every record that is there; a
 * second one, which would bring nothing, is made only for a record that is not whole. What
 * is left in the kernel wakes epoll again. */
void read_car(struct car *car)
{
    static uint8_t room[PACKET_MOST + RECORD_MOST];
    size_t have = car->tail_size;
    if(have > 0) memcpy(room, car->tail, have);
    swarm.reads++;
    do{
        errno = 0;
        int came = SSL_read(car->ssl, room + have, (int)(sizeof room - have));
        if(came <= 0){
            if(SSL_get_error(car->ssl, came) == SSL_ERROR_WANT_READ) break;
            fail_tls(car, "reading");
        }
        have += (size_t)came;
        size_t used = take_packets(car, room, have);
        have -= used;
        if(have > 0) memmove(room, room + used, have);
    }while(SSL_has_pending(car->ssl));
    if(have > 0){
        car->tail = make_room(car->tail, have);
        memcpy(car->tail, room, have);
    }
    car->tail_size = have;
}

/* -- connecting ------------------------------------------------------------------- */

static void shake(struct car *car)
{
    errno = 0;
    int done = SSL_connect(car->ssl);
    int want = SSL_get_error(car->ssl, done);
    car->is_stuck = want == SSL_ERROR_WANT_WRITE;
    watch(car);
    if(done == 1){
        car->stage = GREETING;
        send_packet(car, car->connect.at, car->connect.size);
        if(SSL_has_pending(car->ssl)) read_car(car);
    }else if(want != SSL_ERROR_WANT_WRITE && want != SSL_ERROR_WANT_READ){
        long verified = SSL_get_verify_result(car->ssl);
        if(verified != X509_V_OK)
            fail(car, "the broker: %s", X509_verify_cert_error_string(verified));
        fail_tls(car, "handshake");
    }
}

void begin_connection(uint32_t place)
{
    struct car *car = &swarm.cars[place];
    const int on = 1;
    struct sockaddr_in own = {.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + place / PER_ADDRESS);
    car->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if(car->fd < 0 ||
       setsockopt(car->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
       bind(car->fd, (struct sockaddr *)&own, sizeof own) != 0 ||
       (connect(car->fd, (struct sockaddr *)&swarm.broker, sizeof swarm.broker) != 0 &&
        errno != EINPROGRESS))
        fail(car, "connecting: %s", strerror(errno));
    errno = 0;
    car->ssl = SSL_new(swarm.context);
    if(car->ssl == NULL || SSL_set_fd(car->ssl, car->fd) != 1 ||
       X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(car->ssl), BROKER) != 1 ||
       SSL_use_certificate_chain_file(car->ssl, (const char *)car->chain.at) != 1 ||
       SSL_use_PrivateKey_file(car->ssl, (const char *)car->key.at, SSL_FILETYPE_PEM) != 1)
        fail_tls(car, "certificate and key");
    ERR_clear_error(); /* the end of a PEM file is found by an error */
    car->is_watched = true;
    shake(car);
}

void attend(struct car *car, uint32_t events)
{
    if(car->stage == SHAKING){
        shake(car);
        return;
    }
    if(events & EPOLLOUT) send_backlog(car);
    if(events & ~(uint32_t)EPOLLOUT) read_car(car);
}
