"""A Trio program with a broker inside: it counts seconds, and whoever connects sees them."""

import tercet
import trio
from tercet_broker.core import BrokerSettings, HistorySettings, NamespaceSettings
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon

SETTINGS = DaemonSettings(
    listeners=(ListenerSettings("127.0.0.1:0"),),  # port 0: the system chooses
    broker=BrokerSettings(
        namespaces={"clock": NamespaceSettings(history=HistorySettings(messages=60))},
        unnamed=None,  # only the namespaces above exist
    ),
)


async def main(seconds: int = 3) -> None:
    daemon = Daemon(SETTINGS)
    async with open_daemon(daemon) as (url,):
        print("listening on", url)
        async with tercet.connect(url) as client, client.subscribe("clock/#") as ticks:
            for second in range(seconds):
                await client.publish("clock/seconds", second)
                print("heard", (await ticks.receive()).data)
                await trio.sleep(1)
        await daemon.stop()  # says goodbye to whoever is still connected; leaving the block alone would cut them


if __name__ == "__main__":
    trio.run(main)
