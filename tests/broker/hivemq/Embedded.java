import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Path;

/**
 * Starts HiveMQ for our tests; SIGTERM ends it.
 *
 * <p>Arguments: the folders of its settings, its data and its extensions.
 */
public final class Embedded {

  private Embedded() {}

  public static void main(final String[] folders) {
    EmbeddedHiveMQ.builder()
        .withConfigurationFolder(Path.of(folders[0]))
        .withDataFolder(Path.of(folders[1]))
        .withExtensionsFolder(Path.of(folders[2]))
        .build()
        .start()
        .join();
    System.out.println("freefloat: listening");
  }
}
