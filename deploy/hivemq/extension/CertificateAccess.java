package freefloat;

import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission;
import com.hivemq.extension.sdk.api.packets.auth.DefaultAuthorizationBehaviour;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Pattern;
import javax.naming.InvalidNameException;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;

/**
 * Lets a client do what the name in its certificate may do, as deploy/mosquitto.acl has it.
 *
 * <p>The client id must be that name, and a user name, if there is one, too. The listener has
 * to demand a certificate (REQUIRED); without one nobody gets in.
 */
public final class CertificateAccess implements ExtensionMain, SimpleAuthenticator {

  private static final Pattern VEHICLE = Pattern.compile("[A-Z2-7]{26}");
  private static final Pattern BRIDGE = Pattern.compile("ff-bridge-[0-9]{1,3}");
  private static final Pattern ENGINEER = Pattern.compile("ff-engineer-[0-9]{1,3}");

  private static final List<String> UP = List.of("result", "event", "telem", "hello", "death");
  private static final List<String> DOWN = List.of("cmd", "receipt", "sync", "trust");

  @Override
  public void extensionStart(final ExtensionStartInput input, final ExtensionStartOutput output) {
    Services.securityRegistry().setAuthenticatorProvider(ignored -> this);
  }

  @Override
  public void extensionStop(final ExtensionStopInput input, final ExtensionStopOutput output) {}

  @Override
  public void onConnect(final SimpleAuthInput input, final SimpleAuthOutput output) {
    final String name =
        input
            .getConnectionInformation()
            .getClientTlsInformation()
            .flatMap(tls -> tls.getClientCertificate())
            .flatMap(CertificateAccess::commonName)
            .orElse("");
    final Optional<String> user = input.getConnectPacket().getUserName();
    if (name.isEmpty()
        || !name.equals(input.getClientInformation().getClientId())
        || !user.orElse(name).equals(name)) {
      output.failAuthentication(
          ConnackReasonCode.NOT_AUTHORIZED, "the client id is not the certificate's name");
      return;
    }
    final List<TopicPermission> permissions = permissionsOf(name);
    if (permissions.isEmpty()) {
      output.failAuthentication(
          ConnackReasonCode.NOT_AUTHORIZED, "the certificate's name is none of this fleet");
      return;
    }
    output.getDefaultPermissions().addAll(permissions);
    output.getDefaultPermissions().setDefaultBehaviour(DefaultAuthorizationBehaviour.DENY);
    output.authenticateSuccessfully();
  }

  private static List<TopicPermission> permissionsOf(final String name) {
    final List<TopicPermission> found = new ArrayList<>();
    if (VEHICLE.matcher(name).matches()) {
      add(found, name, "up", UP, TopicPermission.MqttActivity.PUBLISH);
      add(found, name, "down", List.of("+"), TopicPermission.MqttActivity.SUBSCRIBE);
      add(found, name, "down", DOWN, TopicPermission.MqttActivity.SUBSCRIBE);
    } else if (BRIDGE.matcher(name).matches()) {
      add(found, "+", "down", DOWN, TopicPermission.MqttActivity.PUBLISH);
      add(found, "+", "up", List.of("#", "+"), TopicPermission.MqttActivity.SUBSCRIBE);
    } else if (ENGINEER.matcher(name).matches()) {
      found.add(permission("ff/v1/#", TopicPermission.MqttActivity.SUBSCRIBE));
    }
    return found;
  }

  private static void add(
      final List<TopicPermission> found,
      final String vehicle,
      final String way,
      final List<String> classes,
      final TopicPermission.MqttActivity activity) {
    for (final String name : classes) {
      found.add(permission("ff/v1/" + vehicle + "/" + way + "/" + name, activity));
    }
  }

  private static TopicPermission permission(
      final String filter, final TopicPermission.MqttActivity activity) {
    return Builders.topicPermission()
        .topicFilter(filter)
        .activity(activity)
        .retain(TopicPermission.Retain.NOT_RETAINED)
        .build();
  }

  private static Optional<String> commonName(final X509Certificate certificate) {
    try {
      for (final Rdn part : new LdapName(certificate.getSubjectX500Principal().getName()).getRdns()) {
        if (part.getType().equalsIgnoreCase("CN") && part.getValue() instanceof String name) {
          return Optional.of(name);
        }
      }
    } catch (final InvalidNameException error) {
      return Optional.empty();
    }
    return Optional.empty();
  }
}
