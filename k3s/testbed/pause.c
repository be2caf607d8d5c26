/* The smallest possible first process: it waits for a signal, and reaps orphans while it waits.
 *
 * The testbed uses it twice. As the only file of a scratch image it is the sandbox container of every
 * pod (a real cluster downloads registry.k8s.io/pause for that; here nothing may be downloaded), and an
 * image for tests that need a container but not what is in it. As the first process of a node's PID
 * namespace it stands for the node itself: when it dies, the kernel kills everything on the node.
 *
 * Built with: gcc -static -Os -s -o pause pause.c
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static void reap(int signal_number) {
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    struct sigaction on_leave = {.sa_handler = leave};
    struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
    sigaction(SIGTERM, &on_leave, NULL);
    sigaction(SIGINT, &on_leave, NULL);
    sigaction(SIGCHLD, &on_child, NULL);
    for (;;) {
        pause();
    }
}
